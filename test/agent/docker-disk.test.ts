import Docker from "dockerode";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { createDockerDisk } from "../../src/host-adapters/docker/docker-disk.ts";
import { createDockerRoot } from "../../src/host-adapters/docker/docker-root.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { baseImage } from "../support/docker/docker.ts";
import { execIn } from "../support/docker/docker-exec.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { publishUniqueImage } from "../support/docker/publish-image.ts";
import { type ImageRegistry, startImageRegistry } from "../support/servers/image-registry.ts";
import { localSet } from "../support/agent/local-set.ts";

const docker = new Docker();
const { signal } = new AbortController();
const hostId = newId("host");
const port = composeSetEngine({ docker, hostId, log: silentLog });
const disk = createDockerDisk({
  docker,
  hostId,
  root: await createDockerRoot(docker),
  log: silentLog,
});
let registry: ImageRegistry;

beforeAll(async () => {
  registry = await startImageRegistry();
});
afterEach(() => removeHost(docker, hostId));
afterAll(() => registry.close());

const publish = (name: string) => publishUniqueImage(docker, registry, name);
const pulled = async () => disk.listPulledImages(signal);
const isThere = async (reference: string) => (await port.images(signal)).includes(reference);

it("a disk measurement has the bytes of each container, and of all images and containers", async () => {
  const set = localSet();
  await port.prepare(set, signal);
  await port.start(set, ["app"], signal);
  const about = { setId: set.setId, container: "app" };
  await execIn(docker, about, "dd if=/dev/zero of=/written bs=1M count=5; sync");
  const { imageBytes, containerBytes, rootfsBytes } = await disk.measure(signal);
  const dockerId = (await port.observeSet(set.setId, signal))?.containers[0]?.dockerId ?? "";
  const written = rootfsBytes.get(dockerId) ?? 0;
  expect(written).toBeGreaterThanOrEqual(5 * 2 ** 20);
  // The store of containerd also counts the blocks of folders.
  expect(written).toBeLessThan(5.1 * 2 ** 20);
  expect(rootfsBytes.size).toBe(2); // with infra
  expect(containerBytes).toBeGreaterThanOrEqual(5 * 2 ** 20);
  expect(imageBytes).toBeGreaterThan(0);
  const share = await disk.usedShare();
  expect(share).toBeGreaterThan(0);
  expect(share).toBeLessThanOrEqual(1);
});

it("the bytes of a container include the volumes that its image declares", async () => {
  const source = await docker.createContainer({
    Image: baseImage,
    Cmd: ["true"],
    Volumes: { "/data": {}, "/cache": {} },
  });
  // A commit copies the volumes of the container to the image.
  await source.commit({ repo: "berth-test/volumes", tag: "1" });
  await source.remove({ v: true });
  const set = localSet({ image: "berth-test/volumes:1" });
  try {
    await port.prepare(set, signal);
    await port.start(set, ["app"], signal);
    const about = { setId: set.setId, container: "app" };
    await execIn(
      docker,
      about,
      "for at in data/a cache/b c; do dd if=/dev/zero of=/$at bs=1M count=4; done; sync",
    );
    const { containerBytes, rootfsBytes } = await disk.measure(signal);
    const dockerId = (await port.observeSet(set.setId, signal))?.containers[0]?.dockerId ?? "";
    const megabytes = (rootfsBytes.get(dockerId) ?? 0) / 2 ** 20;
    expect(Math.round(megabytes)).toBe(12);
    expect(containerBytes).toBeGreaterThanOrEqual(12 * 2 ** 20);
  } finally {
    await port.remove(set.setId, signal);
    await docker.getImage("berth-test/volumes:1").remove();
  }
});

it("I4: only unused images that the agent pulled are collected", async () => {
  const reference = await publish("pulled");
  const byHand = await publish("by-hand");
  for await (const _ of await docker.pull(byHand));
  const set = localSet({ image: reference });
  await port.pullImages(set, ["app"], signal);
  await port.prepare(set, signal);
  expect(await pulled()).toEqual([{ reference, isUsed: true }]);
  expect(await disk.removeImage(reference, signal)).toBe(false);
  expect(await isThere(reference)).toBe(true);
  expect(await pulled()).toEqual([{ reference, isUsed: true }]);
  expect(await disk.removeImage(byHand, signal)).toBe(false);
  expect(await isThere(byHand)).toBe(true);

  await port.remove(set.setId, signal);
  expect(await pulled()).toEqual([{ reference, isUsed: false }]);
  expect(await disk.removeImage(reference, signal)).toBe(true);
  expect(await isThere(reference)).toBe(false);
  expect(await pulled()).toEqual([]);
  expect(await disk.removeImage(reference, signal)).toBe(false);

  const again = localSet({ image: reference });
  await port.pullImages(again, ["app"], signal);
  await port.prepare(again, signal);
  expect(await pulled()).toEqual([{ reference, isUsed: true }]);
  await removeHost(docker, hostId);
  await disk.removeImage(reference, signal);
  await docker.getImage(byHand).remove({ force: true });
});
