import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import Docker from "dockerode";
import { parse } from "yaml";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import { setTemplateInput } from "../../src/contracts/api/set-template.ts";
import {
  businessContainer,
  infraContainer,
} from "../../src/host-adapters/docker/container-specs.ts";
import { newId } from "../../src/lib/ids.ts";
import { noteTraces } from "../../test/support/network/machine-traces.ts";
import { listContainers, removeContainers } from "./demo-image.ts";
import { manifest, REPLICAS_MIN } from "./demo-manifest.ts";
import { WEB_PORT } from "./demo-view.ts";
import { pause, POLL_MS, readPage } from "./demo-watch.ts";

const run = promisify(execFile);
const ROUNDS = 3;
const ANSWER_DEADLINE_MS = 60_000;
/** The features of Berth's own volumes of this size, so that mkfs has the same work. */
const mkfsOptions = ["-q", "-F", "-m", "0", "-b", "4096", "-O", "64bit,metadata_csum"];

/**
 * The peer of the first set: its containers and its volume without Berth, by calls to the Docker
 * API and the usual programs. The same number of sets start concurrently. Whatever needs not wait
 * for something else does not wait.
 */
export async function measurePeer(
  hostIdOfBerth: string,
): Promise<{ firstMs: number; allMs: number[] }> {
  const docker = new Docker();
  const infra = await readInfra(docker, hostIdOfBerth);
  const allMs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) allMs.push(await measureOnce(docker, infra));
  const sorted = allMs.toSorted((a, b) => a - b);
  return { firstMs: sorted[Math.floor(ROUNDS / 2)] ?? 0, allMs };
}

/** Properties of Berth's infra containers. */
interface Infra {
  image: string;
  canRunPrivileged: boolean;
}

async function readInfra(docker: Docker, hostId: string): Promise<Infra> {
  const filters = { label: [`berth.host=${hostId}`, "berth.container=infra"] };
  const [found] = await docker.listContainers({ filters });
  if (!found) throw new Error("no infra container runs");
  const { HostConfig: config } = await docker.getContainer(found.Id).inspect();
  return { image: found.Image, canRunPrivileged: config.Privileged === true };
}

/** Milliseconds until the first set has answered. */
async function measureOnce(docker: Docker, infra: Infra): Promise<number> {
  const hostId = newId("host");
  const folder = await mkdtemp(path.join(tmpdir(), "berth-demo-peer-"));
  noteTraces({ hostId }, { folder });
  const sets = Array.from({ length: REPLICAS_MIN }, createSpec);
  const mounts = sets.map(({ setId }) => path.join(folder, setId));
  try {
    const startedAtMs = performance.now();
    const started = sets.map(async (set) => {
      const address = await startSet(docker, infra, { hostId, set, folder });
      await untilAnswer(address);
      return performance.now() - startedAtMs;
    });
    return Math.round(Math.min(...(await Promise.all(started))));
  } finally {
    await removeContainers(await listContainers(hostId));
    for (const mount of mounts) await run("umount", [mount]).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  }
}

/** Starts a set and returns its address. */
async function startSet(
  docker: Docker,
  { image, canRunPrivileged }: Infra,
  { hostId, set, folder }: { hostId: string; set: LocalSetSpec; folder: string },
): Promise<string> {
  const dataPath = path.join(folder, set.setId, "data");
  const mounted = mountVolume(set, path.join(folder, set.setId));
  const place = { cgroupParent: "", dataPath };
  const infra = await docker.createContainer(
    infraContainer(hostId, set, {
      image,
      canRunPrivileged,
      networks: [{ dockerNetwork: "bridge" }],
      ...place,
    }),
  );
  const startInfra = async () => {
    await mounted;
    await infra.start();
  };
  const [, ...containers] = await Promise.all([
    startInfra(),
    ...set.template.containers.map((template) =>
      docker.createContainer(
        businessContainer(hostId, set, template, { infraId: infra.id, hasInit: true, ...place }),
      ),
    ),
  ]);
  const [{ NetworkSettings: network }] = await Promise.all([
    infra.inspect(),
    ...containers.map((container) => container.start()),
  ]);
  return network.Networks["bridge"]?.IPAddress ?? "";
}

/** A file system of the set's size in an image file behind a loop device, as Berth's here. */
async function mountVolume(set: LocalSetSpec, mount: string): Promise<void> {
  const image = `${mount}.img`;
  await run("fallocate", ["--length", String(set.template.volume?.sizeBytes), image]);
  await run("/usr/sbin/mkfs.ext4", [...mkfsOptions, image]);
  await mkdir(mount);
  await run("mount", ["-o", "loop,nodev,nosuid,noatime", image, mount]);
  await mkdir(path.join(mount, "data"), { mode: 0o1777 });
}

async function untilAnswer(address: string): Promise<void> {
  const deadlineMs = performance.now() + ANSWER_DEADLINE_MS;
  while ((await readPage(`${address}:${WEB_PORT}`)) === undefined) {
    if (performance.now() > deadlineMs) throw new Error(`${address} does not answer`);
    await pause(POLL_MS);
  }
}

function createSpec(): LocalSetSpec {
  const { template } = parse(manifest) as { template: unknown };
  return {
    setId: newId("set"),
    tenant: "default",
    service: "demo-peer",
    revision: 1,
    generation: 1,
    restartGeneration: 0,
    restoreVolumeId: null,
    template: setTemplateInput.parse(template),
  };
}
