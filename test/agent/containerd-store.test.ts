import { randomBytes } from "node:crypto";
import Docker from "dockerode";
import { pack } from "tar-stream";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createDockerImages } from "../../src/host-adapters/docker/docker-images.ts";
import { createDockerDisk } from "../../src/host-adapters/docker/docker-disk.ts";
import { createDockerRoot, type DockerRoot } from "../../src/host-adapters/docker/docker-root.ts";
import { createLinuxMachine } from "../../src/host-adapters/machine/linux-machine.ts";
import type { DiskPort } from "../../src/agent/ports/disk-port.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { newId } from "../../src/lib/ids.ts";
import { findBlockDevice } from "../../src/lib/linux/block-device.ts";
import { silentLog } from "../../src/lib/log.ts";
import { localSet } from "../support/agent/local-set.ts";
import { baseImage, ensureBaseImage } from "../support/docker/docker.ts";
import { execIn } from "../support/docker/docker-exec.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { readKernelIoLimits } from "../support/docker/kernel-io-limits.ts";
import {
  type DockerVersion,
  type PrivateDocker,
  startPrivateDocker,
} from "../support/docker/private-docker.ts";
import { type ImageRegistry, startImageRegistry } from "../support/servers/image-registry.ts";

const MiB = 2 ** 20;
const diskBytes = 300 * MiB;
const imageBytes = 40 * MiB;
const { signal } = new AbortController();
let registry: ImageRegistry;

beforeAll(async () => {
  registry = await startImageRegistry();
});
afterAll(() => registry.close());

describe.each<DockerVersion>(["28", "26"])("containerd's store of Docker %s", (version) => {
  const hostId = newId("host");
  let daemon: PrivateDocker;
  let root: DockerRoot;
  let disk: DiskPort;
  let port: SetPort;

  beforeAll(async () => {
    daemon = await startPrivateDocker({
      version,
      imageStore: "containerd",
      imageDiskBytes: diskBytes,
    });
    const { docker } = daemon;
    await ensureBaseImage(docker);
    root = await createDockerRoot(docker);
    disk = createDockerDisk({ docker, hostId, root, log: silentLog });
    port = composeSetEngine({ docker, hostId, log: silentLog });
  });
  afterEach(() => removeHost(daemon.docker, hostId));
  afterAll(() => daemon.close());

  it("the host's disk is the one of containerd's folder", async () => {
    await disk.measure(signal);
    expect(root.folder()).toBe(daemon.folders.containerd);
    const machine = createLinuxMachine({
      dockerRoot: () => root.folder(),
      reservePercent: { cpu: 0, memory: 0, rootfs: 0 },
    });
    const { allocatable } = await machine.measure(0);
    expect(allocatable.rootfsBytes).toBeGreaterThan(diskBytes / 2);
    expect(allocatable.rootfsBytes).toBeLessThanOrEqual(diskBytes);
  });

  it("agents that import the infra image at the same time all have it", async () => {
    const images = Array.from({ length: 4 }, () =>
      createDockerImages({ docker: daemon.docker, log: silentLog, busyboxPath: "/bin/busybox" }),
    );
    for (let round = 0; round < 5; round++) {
      const references = await Promise.all(images.map((each) => each.restoreInfraImage()));
      expect(new Set(references).size).toBe(1);
      await daemon.docker.getImage(references[0] ?? "").remove({ force: true });
    }
  });

  it("an image fills this disk, and its removal frees it immediately", async () => {
    const reference = await publish(`large-${version}`, imageBytes);
    const before = await disk.usedShare();
    await port.pullImages(localSet({ image: reference }), ["app"], signal);
    const filled = await disk.usedShare();
    // The disk has the layers of the image, and their files.
    expect(filled - before).toBeGreaterThan((1.5 * imageBytes) / diskBytes);
    const { imageBytes: measuredBytes } = await disk.measure(signal);
    expect(measuredBytes).toBeGreaterThanOrEqual(imageBytes);
    expect(await disk.listPulledImages(signal)).toEqual([{ reference, isUsed: false }]);
    expect(await disk.removeImage(reference, signal)).toBe(true);
    expect((await disk.usedShare()) - before).toBeLessThan((0.1 * imageBytes) / diskBytes);
    expect(await port.images(signal)).not.toContain(reference);
  });

  it("an image of several platforms is used by its container, by tag and by digest", async () => {
    const tagged = await publishPlatforms(daemon.docker, `platforms-${version}`);
    const { headers } = await fetch(manifestUrl(tagged.replace(/^.*\//, "")), {
      method: "HEAD",
      headers: { accept: indexType },
    });
    const digested = tagged.replace(/:\w+$/, `@${headers.get("docker-content-digest")}`);
    for (const reference of [tagged, digested]) {
      const set = localSet({ image: reference });
      await port.pullImages(set, ["app"], signal);
      await port.prepare(set, signal);
      await port.start(set, ["app"], signal);
      expect(await disk.listPulledImages(signal)).toEqual([{ reference, isUsed: true }]);
      expect(await disk.removeImage(reference, signal)).toBe(false);
      await port.remove(set.setId, signal);
      expect(await disk.listPulledImages(signal)).toEqual([{ reference, isUsed: false }]);
      expect(await disk.removeImage(reference, signal)).toBe(true);
      expect(await disk.listPulledImages(signal)).toEqual([]);
    }
  });

  it("I/O limits apply to the disk of containerd, and to Docker's, which has the volumes of images", async () => {
    const limits = { writeBytesPerSecond: 20 * MiB };
    const set = localSet({ template: { io: limits } });
    await port.prepare(set, signal);
    await port.start(set, ["app"], signal);
    const devices = await Promise.all(
      Object.values(daemon.folders).map((at) => findBlockDevice(at)),
    );
    expect(new Set(devices).size).toBe(2);
    const { State: state } = await daemon.docker.getContainer(`berth-${set.setId}-app`).inspect();
    expect(await readKernelIoLimits(state.Pid)).toEqual(
      Object.fromEntries(devices.map((device) => [device, limits])),
    );
  });
});

it("a daemon that changes its store runs the sets again, and the disk follows", async () => {
  const hostId = newId("host");
  const options = { version: "28", imageStore: "containerd", imageDiskBytes: diskBytes } as const;
  const daemon = await startPrivateDocker(options);
  const { docker } = daemon;
  const root = await createDockerRoot(docker);
  const disk = createDockerDisk({ docker, hostId, root, log: silentLog });
  const port = composeSetEngine({ docker, hostId, log: silentLog });
  const set = localSet({ options: { stopTimeoutSeconds: 1 } });
  const runSet = async () => {
    await ensureBaseImage(docker);
    await port.prepare(set, signal);
    await port.start(set, ["app"], signal);
    const observed = await port.observeSet(set.setId, signal);
    expect(observed?.containers.map(({ state }) => state)).toEqual(["running"]);
    const about = { setId: set.setId, container: "app" };
    await execIn(docker, about, "dd if=/dev/zero of=/written bs=1M count=5; sync");
    const { rootfsBytes } = await disk.measure(signal);
    const written = rootfsBytes.get(observed?.containers[0]?.dockerId ?? "") ?? 0;
    expect(Math.floor(written / MiB)).toBe(5);
    return root.folder();
  };
  const closing = new AbortController();
  void port.watch(() => {}, closing.signal).catch(() => undefined);
  try {
    expect(await runSet()).toBe(daemon.folders.containerd);
    await daemon.restart("docker");
    expect(await runSet()).toBe(daemon.folders.docker);
    await port.remove(set.setId, signal);
    await daemon.restart("containerd");
    expect(await runSet()).toBe(daemon.folders.containerd);
  } finally {
    closing.abort();
    await daemon.close();
  }
});

/** Publishes an image with a file of random bytes, which only the registry has. */
async function publish(name: string, fileBytes: number): Promise<string> {
  const docker = new Docker();
  const repo = `${registry.address}/${name}`;
  const container = await docker.createContainer({ Image: baseImage, Cmd: ["true"] });
  const tar = pack();
  tar.entry({ name: "unique" }, randomBytes(fileBytes));
  tar.finalize();
  await container.putArchive(tar as unknown as NodeJS.ReadableStream, { path: "/" });
  await container.commit({ repo, tag: "1" });
  await container.remove();
  await registry.take(docker, `${repo}:1`);
  return `${repo}:1`;
}

const indexType = "application/vnd.oci.image.index.v1+json";
const manifestTypes = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];
const manifestUrl = (image: string) =>
  `http://${registry.address}/v2/${image.replace(/:(\w+)$/, "/manifests/$1")}`;

/** Publishes an index with the machine's platform and another one. */
async function publishPlatforms(docker: Docker, name: string): Promise<string> {
  await publish(name, 1_000);
  const answer = await fetch(manifestUrl(`${name}:1`), {
    headers: { accept: manifestTypes.join() },
  });
  const text = await answer.text();
  const manifest = {
    mediaType: answer.headers.get("content-type"),
    digest: answer.headers.get("docker-content-digest"),
    size: Buffer.byteLength(text),
  };
  const { Arch: architecture } = await docker.version();
  const index = {
    schemaVersion: 2,
    mediaType: indexType,
    manifests: [architecture, "riscv64"].map((platform) => ({
      ...manifest,
      platform: { architecture: platform, os: "linux" },
    })),
  };
  const put = await fetch(manifestUrl(`${name}:all`), {
    method: "PUT",
    headers: { "content-type": indexType },
    body: JSON.stringify(index),
  });
  if (!put.ok) throw new Error(await put.text());
  return `${registry.address}/${name}:all`;
}
