import { inspect } from "node:util";
import Docker from "dockerode";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RegistryCredentials } from "../../src/agent/model/registry-credentials.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { localSet } from "../support/agent/local-set.ts";
import { baseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { startDockerProxy } from "../support/docker/docker-proxy.ts";
import {
  type ImageRegistry,
  registryLogins,
  startImageRegistry,
} from "../support/servers/image-registry.ts";

const docker = new Docker();
const { signal } = new AbortController();
const hostId = newId("host");
const { first, second } = registryLogins;
const credentials = new RegistryCredentials();
const options = { hostId, log: silentLog, registryCredentials: credentials };
const port = composeSetEngine({ docker, ...options });
let registry: ImageRegistry;
let image: string;

beforeAll(async () => {
  registry = await startImageRegistry(first);
  const repo = `${registry.address}/team/private`;
  image = `${repo}:1`;
  await docker.getImage(baseImage).tag({ repo, tag: "1" });
  await registry.take(docker, image);
});
afterAll(async () => {
  await removeHost(docker, hostId);
  await registry.close();
});

interface Login {
  username: string;
  password: string | null;
}

const storeFor = (tenant: string, { username, password }: Login = first) =>
  credentials.update([{ tenant, registry: registry.address, username, password }]);
const pull = (tenant: string) =>
  port.pullImages({ ...localSet({ image }), tenant }, ["app"], signal);
const pullAgain = async (tenant: string) => {
  await docker.getImage(image).remove({ force: true });
  await pull(tenant);
};
const refusal = (text: string) => ({
  code: "image-unavailable",
  phase: "image",
  temporary: true,
  message: expect.stringContaining(
    `${text}: store a valid one with "berth registry login ${registry.address}"`,
  ),
});

it("a private image is pulled with the credential of its tenant only", async () => {
  const missing = refusal(`No credential is stored for registry ${registry.address}`);
  await expect(pull("food")).rejects.toMatchObject(missing);
  storeFor("toys");
  await expect(pull("food")).rejects.toMatchObject(missing);
  storeFor("food");
  await pull("food");
  expect(await port.images(signal)).toContain(image);
});

it("the next pull uses a changed password", async () => {
  storeFor("food");
  await pullAgain("food");
  await registry.setLogin(second);
  const refused = await pullAgain("food").catch((error: unknown) => error);
  expect(refused).toMatchObject(
    refusal(`Registry ${registry.address} refuses the stored credential`),
  );
  storeFor("food", second);
  await pull("food");
  // The API process that answers cannot decrypt it.
  storeFor("food", { username: second.username, password: null });
  await pullAgain("food");
  await docker.getImage(image).remove({ force: true });
});

it.each(["unauthorized: access", "toomanyrequests: wait", "manifest unknown:"])(
  "no error contains the password that a registry repeats: %s",
  async (fault) => {
    const proxy = await startDockerProxy();
    const impolite = composeSetEngine({ ...options, docker: proxy.docker });
    storeFor("food");
    const message = `${fault} for ${first.username}:${first.password}`;
    const answers = [
      { status: 200, lines: [{ error: message }] },
      { status: 500, lines: [{ message }] },
    ];
    try {
      for (const answer of answers) {
        proxy.answers = (request) =>
          request.startsWith("POST /images/create") ? answer : undefined;
        const wanted = { ...localSet({ image }), tenant: "food" };
        const error = await impolite
          .pullImages(wanted, ["app"], signal)
          .catch((caught: unknown) => caught);
        expect(error).toMatchObject({ message: expect.stringContaining("puller:[redacted]") });
        expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(first.password);
      }
    } finally {
      await proxy.close();
    }
  },
);
