import Docker from "dockerode";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { toMark } from "../../src/host-adapters/docker/pulled-images.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { findFreePort } from "../support/servers/child-server.ts";
import { baseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { type DockerProxy, startDockerProxy } from "../support/docker/docker-proxy.ts";
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
  port = composeSetEngine({ docker, hostId, log: silentLog });
});

/** Publishes the base image under a name of the registry. */
async function publish(name: string, tag: string): Promise<string> {
  const repo = `${registry.address}/${name}`;
  await docker.getImage(baseImage).tag({ repo, tag });
  await registry.take(docker, `${repo}:${tag}`);
  return `${repo}:${tag}`;
}

/** containerd's image store publishes images in the formats of OCI. */
const manifestTypes = [
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.oci.image.index.v1+json",
].join(", ");

async function readDigest(image: string): Promise<string> {
  const path = image.replace("/", "/v2/").replace(/:(\w+)$/, "/manifests/$1");
  const headers = { accept: manifestTypes };
  const answer = await fetch(`http://${path}`, { method: "HEAD", headers });
  const digest = answer.headers.get("docker-content-digest");
  if (digest === null) throw new Error(`the registry answered ${answer.status} without a digest`);
  return digest;
}

it("a missing image is pulled once for all sets that wait for it", async () => {
  const image = await publish("team/menu", "42");
  await publish("team/menu", "43");
  try {
    const sets = [localSet({ image, names: ["app", "side"] }), localSet({ image })];
    await Promise.all(sets.map((set) => port.pullImages(set, ["app"], signal)));
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
    await expect(port.pullImages(set, ["app"], signal)).rejects.toMatchObject({
      code: "image-not-found",
      phase: "image",
      temporary: false,
      message: expect.stringContaining(image),
    });
  }
});

it("an image that was pulled by its digest is listed by it", async () => {
  const tagged = await publish("team/pinned", "1");
  const [repository = ""] = tagged.split(/:1$/);
  const pinned = `${repository}@${await readDigest(tagged)}`;
  await port.pullImages(localSet({ image: pinned }), ["app"], signal);
  const held = await port.images(signal);
  expect(held).toContain(pinned);
  expect(held.filter((name) => /^berth-(?:pulled|private)/.test(name))).toEqual([]);
  for (const reference of [pinned, toMark(pinned)]) await docker.getImage(reference).remove();
});

describe("a prefetch", () => {
  const tenant = "default";

  it("pulls a tag again that the registry has moved, and returns its digest", async () => {
    const reference = await publish("team/moved", "1");
    const first = await port.prefetch({ reference, tenant }, signal);
    expect(first.digest).toBe(await readDigest(reference));
    const source = await docker.createContainer({ Image: baseImage, Cmd: ["true"] });
    await source.commit({ repo: reference.replace(/:1$/, ""), tag: "1", comment: "moved" });
    await source.remove();
    await registry.take(docker, reference);
    const second = await port.prefetch({ reference, tenant }, signal);
    expect(second.digest).toBe(await readDigest(reference));
    expect(second.imageId).not.toBe(first.imageId);
    const pinned = `${reference.replace(/:1$/, "")}@${second.digest}`;
    expect(await port.prefetch({ reference: pinned, tenant }, signal)).toMatchObject({
      imageId: second.imageId,
    });
    for (const name of [reference, toMark(reference)]) await docker.getImage(name).remove();
  });

  it("needs no registry for an image that only this daemon has", async () => {
    const reference = `127.0.0.1:${await findFreePort()}/team/local:1`;
    const { Id } = await docker.getImage(baseImage).inspect();
    await docker.getImage(baseImage).tag({ repo: reference.replace(/:1$/, ""), tag: "1" });
    expect(await port.prefetch({ reference, tenant }, signal)).toEqual({ imageId: Id });
    await docker.getImage(reference).remove();
    await expect(port.prefetch({ reference, tenant }, signal)).rejects.toMatchObject({
      code: "image-unavailable",
      temporary: true,
    });
  });
});

it("a container whose image is missing is not created, and can be after a pull", async () => {
  const image = await publish("team/late", "1");
  const set = localSet({ image });
  const error = { code: "image-missing", temporary: true };
  expect(await port.prepare(set, signal)).toMatchObject([{ container: "app", error }]);
  await port.pullImages(set, ["app"], signal);
  await port.prepareContainer(set, "app", signal);
  await removeHost(docker, hostId);
  await docker.getImage(image).remove({ force: true });
});

it("a set keeps running while the image of its next containers is missing", async () => {
  const set = localSet();
  await port.prepare(set, signal);
  await port.start(set, ["app"], signal);
  const before = await port.observeSet(set.setId, signal);
  const image = await publish("team/next", "1");
  const template = localSet({ image }).template;
  const next = { ...set, generation: 2, restartGeneration: 2, template };
  await expect(port.prepare(next, signal)).rejects.toMatchObject({ code: "image-missing" });
  expect(await port.observeSet(set.setId, signal)).toEqual(before);
  await port.pullImages(next, ["app"], signal);
  await port.prepare(next, signal);
  const after = await port.observeSet(set.setId, signal);
  expect(after?.containers.map(({ state }) => state)).toEqual(["created"]);
  await removeHost(docker, hostId);
  await docker.getImage(image).remove({ force: true });
});

it("an unreachable registry is a temporary error", async () => {
  const image = `127.0.0.1:${await findFreePort()}/team/menu:42`;
  const set = localSet({ image });
  await expect(port.pullImages(set, ["app"], signal)).rejects.toMatchObject({
    code: "image-unavailable",
    phase: "image",
    temporary: true,
  });
  expect(await port.observe(signal)).toEqual([]);
});

describe("through a proxy of Docker", () => {
  let proxy: DockerProxy;
  beforeAll(async () => {
    proxy = await startDockerProxy();
  });
  afterAll(() => proxy.close());
  beforeEach(() => {
    proxy.hangs = () => false;
    proxy.answers = () => undefined;
  });
  const isPull = (request: string) => request.startsWith("POST /images/create");
  const missing = () => localSet({ image: `127.0.0.1:1/team/none:${newId("img")}` });

  it("a pull without progress ends, and a slow one with progress does not", async () => {
    const impatient = composeSetEngine({
      docker: proxy.docker,
      hostId,
      log: silentLog,
      pullIdleTimeoutMs: 1_000,
    });
    proxy.hangs = isPull;
    const stalled = {
      code: "image-unavailable",
      temporary: true,
      message: expect.stringContaining("no progress for 1 s"),
    };
    await expect(impatient.pullImages(missing(), ["app"], signal)).rejects.toMatchObject(stalled);
    proxy.hangs = () => false;
    const answerSlowly = (lines: unknown[]) => {
      proxy.answers = (request) =>
        isPull(request) ? { status: 200, pauseMs: 400, lines } : undefined;
    };
    const status = "Downloading";
    const toLine = (current: number) => ({ status, id: "layer", progressDetail: { current } });
    answerSlowly(Array.from({ length: 6 }, (_, number) => toLine(number)));
    await impatient.pullImages(missing(), ["app"], signal);
    // containerd repeats the same line every 100 ms.
    answerSlowly(Array.from({ length: 6 }, () => toLine(1)));
    await expect(impatient.pullImages(missing(), ["app"], signal)).rejects.toMatchObject(stalled);
  });

  it.each([
    ["denied", "pull access denied for x, repository does not exist or may require 'docker login'"],
    ["unauthorized", "unauthorized: authentication required"],
    ["a page of a proxy", "error parsing HTTP 404 response body: not found: <html>"],
    ["limited", "toomanyrequests: You have reached your pull rate limit"],
  ])("a registry that answers %s is a temporary error", async (_what, message) => {
    const port = composeSetEngine({ docker: proxy.docker, hostId, log: silentLog });
    for (const line of [{ error: message }, { errorDetail: { message } }]) {
      proxy.answers = (request) => (isPull(request) ? { status: 200, lines: [line] } : undefined);
      await expect(port.pullImages(missing(), ["app"], signal)).rejects.toMatchObject({
        code: "image-unavailable",
        temporary: true,
      });
    }
  });
});
