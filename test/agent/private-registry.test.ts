import { inspect } from "node:util";
import Docker from "dockerode";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { RegistryCredentials } from "../../src/agent/model/registry-credentials.ts";
import { createDockerDisk } from "../../src/host-adapters/docker/docker-disk.ts";
import { createDockerRoot } from "../../src/host-adapters/docker/docker-root.ts";
import { recordAccess } from "../../src/host-adapters/docker/private-images.ts";
import { toMark } from "../../src/host-adapters/docker/pulled-images.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { localSet } from "../support/agent/local-set.ts";
import { baseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { publishUniqueImage } from "../support/docker/publish-image.ts";
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
    `${text}. Run "berth registry login ${registry.address} --username NAME --password-stdin"`,
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

describe("a private image on the host", () => {
  const names = () =>
    docker.listImages().then((images) => images.flatMap(({ RepoTags }) => RepoTags ?? []));
  const privateMarks = async () =>
    (await names()).filter((name) => name.startsWith("berth-private:"));
  const storeForAll = (...tenants: string[]) =>
    credentials.update(
      tenants.map((tenant) => ({ tenant, registry: registry.address, ...second })),
    );
  let unique: string;
  const start = async (tenant: string, reference = unique) => {
    const set = { ...localSet({ image: reference }), tenant };
    await port.pullImages(set, ["app"], signal);
    expect(await port.prepare(set, signal)).toEqual([]);
  };
  beforeAll(async () => {
    await registry.setLogin(second);
    unique = await publishUniqueImage(docker, registry, "team/unique");
  });
  afterEach(async () => {
    await removeHost(docker, hostId);
    const [...marks] = await privateMarks();
    const all = [unique, ...marks, ...(await names()).filter((name) => name === toMark(unique))];
    for (const name of all)
      await docker
        .getImage(name)
        .remove({ force: true })
        .catch(() => undefined);
  });

  it("is for the tenants that the registry has admitted", async () => {
    storeForAll("food");
    await start("food");
    await start("food");
    const missing = refusal(`No credential is stored for registry ${registry.address}`);
    await expect(start("toys")).rejects.toMatchObject(missing);
    // No other name of the image avoids the pull.
    const others = (await privateMarks()).concat(toMark(unique));
    expect(others).toHaveLength(2);
    for (const name of others)
      await expect(start("toys", name)).rejects.toMatchObject({ phase: "image" });
    const set = { ...localSet({ image: unique }), tenant: "toys" };
    // The agent prepares a set before it pulls.
    expect(await port.prepare(set, signal)).toMatchObject([
      { container: "app", error: { code: "image-missing" } },
    ]);
    storeForAll("food", "toys");
    await start("toys");
    expect(await privateMarks()).toHaveLength(2);
    // Both still use it without the registry, and after their credentials are deleted.
    credentials.update([]);
    await registry.setLogin(first);
    await Promise.all([start("food"), start("toys")]);
    await registry.setLogin(second);
  });

  it("is for everyone once a pull without a credential succeeds, or if the host had it before", async () => {
    storeForAll("food");
    await docker.getImage(baseImage).tag({ repo: `${registry.address}/team/loaded`, tag: "1" });
    await registry.take(docker, `${registry.address}/team/loaded:1`);
    await start("food", `${registry.address}/team/loaded:1`);
    expect(await privateMarks()).toEqual([]);
    await start("toys", baseImage);
    await docker.getImage(`${registry.address}/team/loaded:1`).remove({ force: true });
    await start("food");
    expect(await privateMarks()).toHaveLength(1);
    await recordAccess(docker, { reference: unique, tenant: "toys", isAnonymous: true }, signal);
    expect(await privateMarks()).toEqual([]);
    credentials.update([]);
    await start("toys");
  });

  it("is for its tenant although its mark could not be recorded", async () => {
    storeForAll("food");
    const proxy = await startDockerProxy();
    const failing = composeSetEngine({ ...options, docker: proxy.docker });
    const set = { ...localSet({ image: unique }), tenant: "food" };
    proxy.answers = (request) =>
      /^POST \/images\/.*\/tag/.test(request)
        ? { status: 500, lines: [{ message: "no space left on device" }] }
        : undefined;
    try {
      await expect(failing.pullImages(set, ["app"], signal)).rejects.toMatchObject({
        code: "image-unavailable",
        temporary: true,
      });
      expect(await privateMarks()).toEqual([]);
      await expect(start("toys")).rejects.toMatchObject({ code: "image-unavailable" });
      // The agent prepares a set before it pulls.
      expect(await port.prepare({ ...set, tenant: "toys" }, signal)).toMatchObject([
        { container: "app", error: { code: "image-missing" } },
      ]);
      proxy.answers = () => undefined;
      await failing.pullImages(set, ["app"], signal);
      expect(await privateMarks()).toHaveLength(1);
    } finally {
      await proxy.close();
    }
  });

  it("is not found by its id", async () => {
    storeForAll("food");
    await start("food");
    const { Id: id } = await docker.getImage(unique).inspect();
    for (const name of [id, id.slice(7), id.slice(7, 19)]) {
      const set = { ...localSet({ image: name }), tenant: "food" };
      await expect(start("food", name)).rejects.toMatchObject({ phase: "image" });
      expect(await port.prepare(set, signal)).toMatchObject([
        { container: "app", error: { code: "image-missing" } },
      ]);
    }
  });

  it("loses its name before its marks", async () => {
    storeForAll("food");
    await start("food");
    await removeHost(docker, hostId);
    const proxy = await startDockerProxy();
    const root = await createDockerRoot(docker);
    const disk = createDockerDisk({ docker: proxy.docker, hostId, root, log: silentLog });
    const deleted: string[] = [];
    proxy.answers = (request) => {
      const [, name] = /^DELETE \/images\/([^?]*)/.exec(request) ?? [];
      if (name !== undefined) deleted.push(decodeURIComponent(name));
      return undefined;
    };
    try {
      const [mark] = await privateMarks();
      expect(await disk.removeImage(unique, signal)).toBe(true);
      expect(deleted).toEqual([unique, mark, toMark(unique)]);
    } finally {
      await proxy.close();
    }
  });

  it("is garbage-collected with its marks", async () => {
    storeForAll("food", "toys");
    await start("food");
    await start("toys");
    const root = await createDockerRoot(docker);
    const disk = createDockerDisk({ docker, hostId, root, log: silentLog });
    expect(await disk.removeImage(unique, signal)).toBe(false);
    expect(await privateMarks()).toHaveLength(2);
    await removeHost(docker, hostId);
    expect(await disk.removeImage(unique, signal)).toBe(true);
    expect(await privateMarks()).toEqual([]);
    expect(await names()).not.toContain(unique);
  });
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
