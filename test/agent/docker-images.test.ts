import Docker from "dockerode";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { createDockerSetPort } from "../../src/agent/adapters/docker/docker-set-port.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { findFreePort } from "../support/servers/child-server.ts";
import { baseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { type ImageRegistry, startImageRegistry } from "../support/servers/image-registry.ts";
import { localSet } from "../support/agent/local-set.ts";

const docker = new Docker();
const { signal } = new AbortController();
const hostId = newId("host");
let port: SetPort;
let registry: ImageRegistry;

beforeAll(async () => {
  registry = await startImageRegistry();
});
afterAll(async () => {
  await removeHost(docker, hostId);
  await registry.close();
});
beforeEach(() => {
  port = createDockerSetPort({ docker, hostId, log: silentLog });
});

/** Publishes the base image under a name of the registry. */
async function publish(name: string, tag: string): Promise<string> {
  const repo = `${registry.address}/${name}`;
  await docker.getImage(baseImage).tag({ repo, tag });
  await registry.take(docker, `${repo}:${tag}`);
  return `${repo}:${tag}`;
}

it("a missing image is pulled once for all sets that wait for it", async () => {
  const image = await publish("team/menu", "42");
  await publish("team/menu", "43");
  try {
    const sets = [localSet({ image, names: ["app", "side"] }), localSet({ image })];
    await Promise.all(sets.map((set) => port.prepare(set, signal)));
    const [first] = sets;
    if (!first) throw new Error("two sets were created");
    await port.start(first, ["app", "side"], signal);
    const observed = await port.observeSet(first.setId, signal);
    expect(observed?.containers.map(({ state }) => state)).toEqual(["running", "running"]);
    const held = await port.images(signal);
    expect(held).toContain(image);
    expect(held).not.toContain(image.replace(":42", ":43"));
  } finally {
    await removeHost(docker, hostId);
    await docker.getImage(image).remove({ force: true });
  }
});

it("an image that its registry does not have is a permanent error", async () => {
  const known = await publish("team/other", "1");
  for (const image of [known.replace(/:1$/, ":2"), `${registry.address}/no/such:1`]) {
    const set = localSet({ image });
    await expect(port.prepare(set, signal)).rejects.toMatchObject({
      code: "image-not-found",
      phase: "image",
      temporary: false,
      message: expect.stringContaining(image),
    });
    await port.remove(set.setId, signal);
  }
});

it("an unreachable registry is a temporary error", async () => {
  const image = `127.0.0.1:${await findFreePort()}/team/menu:42`;
  const set = localSet({ image });
  await expect(port.prepare(set, signal)).rejects.toMatchObject({
    code: "image-unavailable",
    phase: "image",
    temporary: true,
  });
  await port.remove(set.setId, signal);
  expect(await port.observe(signal)).toEqual([]);
});
