import { systemClock } from "../../src/host-adapters/machine/system-clock.ts";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { createSetCgroups } from "../../src/host-adapters/cgroups/create-cgroups.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { createLinuxMachine } from "../../src/host-adapters/machine/linux-machine.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import { createAgent } from "../../src/agent/loop/agent.ts";
import type { ControlPlane } from "../../src/agent/ports/control-plane.ts";
import type { AgentState, StateStore } from "../../src/agent/ports/state-store.ts";
import type { DesiredSet } from "../../src/contracts/agent-protocol/desired-set.ts";
import type { ObservedSet } from "../../src/contracts/agent-protocol/observed-set.ts";
import type { SyncResult } from "../../src/contracts/agent-protocol/sync.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeHarness } from "../contract/volume-contract.ts";
import { ensureBaseImage } from "../support/docker/docker.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { readKernelIoLimits } from "../support/docker/kernel-io-limits.ts";
import { localSet } from "../support/agent/local-set.ts";
import { openLoopHarness } from "../support/volumes/loop-harness.ts";
import { type PrivateDocker, startPrivateDocker } from "../support/docker/private-docker.ts";
import { waitUntil } from "../support/wait-until.ts";

const MiB = 2 ** 20;
const cgroupRoot = "/sys/fs/cgroup";
const slow = { deadlineMs: 120_000 };
let daemon: PrivateDocker;
let harness: VolumeHarness;
let hostId: string;
let set: DesiredSet;
let observed: ObservedSet | undefined;
let saved: AgentState | undefined;
let agent: { stop(): Promise<void> };

beforeAll(async () => {
  daemon = await startPrivateDocker();
  await ensureBaseImage(daemon.docker);
});
afterAll(() => daemon.close());

beforeEach(async () => {
  harness = await openLoopHarness("ext4", 32 * MiB);
  hostId = newId("host");
  saved = undefined;
  set = {
    ...localSet({
      names: ["app", "side"],
      template: {
        cpu: 1.5,
        memory: "256Mi",
        sysctls: { "net.core.somaxconn": "777" },
        io: { writeBytesPerSecond: "64Mi" },
        volume: { size: "32Mi", mountPath: "/data" },
      },
      options: { cpu: 40, memory: 25 },
    }),
    desired: "running",
  };
  agent = startAgent();
  await waitForLimits();
});
afterEach(async () => {
  await agent.stop();
  await removeHost(daemon.docker, hostId);
  await harness.close();
});

/** Starts the real agent with a control plane that wants one set and records the reports. */
function startAgent(): { stop(): Promise<void> } {
  const volumes = createVolumes({
    store: harness.openStore(),
    root: harness.root,
    fileSystem: harness.fileSystem,
    retentionMs: 3_600_000,
    purgesEarly: false,
    log: silentLog,
  });
  const api: ControlPlane = {
    async sync(body, signal) {
      observed = body.observed.at(-1) ?? observed;
      if (body.waitMs > 0) await delay(body.waitMs, undefined, { signal });
      return answer(body.full);
    },
    uploadStream: async () => undefined,
  };
  const state: StateStore = {
    load: async () => saved,
    save: async (next) => {
      saved = next;
    },
  };
  const reservePercent = { cpu: 5, memory: 5, rootfs: 5 };
  const stopping = new AbortController();
  const ran = createAgent({
    hostId,
    agentVersion: "test",
    random: Math.random,
    clock: systemClock,
    port: composeSetEngine({ docker: daemon.docker, hostId, log: silentLog, volumes }),
    api,
    state,
    machine: createLinuxMachine({ dockerRoot: () => "/", reservePercent }),
    volumes,
    log: silentLog,
    limits: { pingIntervalMs: 200, resyncIntervalMs: 500 },
  }).run(stopping.signal);
  return {
    async stop() {
      stopping.abort();
      await ran;
    },
  };
}

function answer(full: boolean): SyncResult {
  return {
    hostGeneration: set.generation,
    full,
    sets: full ? [set] : [],
    streams: [],
    purgeVolumes: [],
    reportAgain: [],
    leaseSeconds: 45,
    serverTime: new Date().toISOString(),
  };
}

const dockerIdOf = (name: string) => `berth-${set.setId}-${name}`;

/** The kernel's limits of the set and of its "app", all from the kernel's own files. */
async function readLimits() {
  const { State: state } = await daemon.docker.getContainer(dockerIdOf("app")).inspect();
  const lines = (await readFile(`/proc/${state.Pid}/cgroup`, "utf8")).trim().split("\n");
  const hierarchies = lines.map((line) => line.split(":"));
  const isVersion2 = hierarchies.length === 1;
  const read = async (controller: string, file: string) => {
    const own = hierarchies.find(([, names]) => isVersion2 || names === controller)?.[2] ?? "";
    return (await readFile(join(cgroupRoot, isVersion2 ? "" : controller, own, file), "utf8"))
      .trim()
      .split(" ")[0];
  };
  const quota = isVersion2 ? "cpu.max" : "cpu.cfs_quota_us";
  const share = isVersion2 ? "cpu.weight" : "cpu.shares";
  const reservation = isVersion2 ? "memory.low" : "memory.soft_limit_in_bytes";
  const memory = isVersion2 ? "memory.max" : "memory.limit_in_bytes";
  return {
    set: [
      await read("cpu", `../${quota}`),
      await read("memory", `../${memory}`),
      await read("memory", `../${reservation}`),
      await read("pids", "../pids.max"),
    ],
    setShare: await read("cpu", `../${share}`),
    app: [
      await read("cpu", quota),
      await read("memory", memory),
      await read("memory", reservation),
      await read("pids", "pids.max"),
    ],
    io: Object.values(await readKernelIoLimits(state.Pid)),
    sysctl: await somaxconn(),
    hasVolume: (await readFile(`/proc/${state.Pid}/mounts`, "utf8")).includes(" /data ext4 "),
  };
}

/** The sysctl's value for the processes of the set's network. */
async function somaxconn(): Promise<string> {
  const exec = await daemon.docker
    .getContainer(dockerIdOf("app"))
    .exec({ Cmd: ["cat", "/proc/sys/net/core/somaxconn"], AttachStdout: true, Tty: true });
  const chunks: Buffer[] = [];
  for await (const chunk of await exec.start({ Tty: true })) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString().trim();
}

const wanted = {
  set: ["150000", String(256 * MiB), String(128 * MiB), "8192"],
  app: ["60000", String(64 * MiB), String(32 * MiB), "4096"],
  sysctl: "777",
  /** On the volume, and on Docker's disk. */
  io: [{ writeBytesPerSecond: 64 * MiB }, { writeBytesPerSecond: 64 * MiB }],
  hasVolume: true,
};

async function waitForLimits(): Promise<void> {
  await waitUntil(
    "the set runs with the limits of its template",
    async () => {
      expect(observed).toMatchObject({ setId: set.setId, state: "running", ready: true });
      const names = await daemon.docker.listContainers();
      expect(names).toHaveLength(3);
      expect(await readLimits()).toMatchObject(wanted);
      return true;
    },
    slow,
  );
}

const dockerIds = async () => (await daemon.docker.listContainers()).map(({ Id }) => Id).sort();

it("limits apply after a restart of a container, of its infra container, and of the agent", async () => {
  const before = await dockerIds();
  await daemon.docker.getContainer(dockerIdOf("app")).restart({ t: 0 });
  await waitForLimits();
  await daemon.docker.getContainer(dockerIdOf("infra")).kill();
  observed = undefined;
  await waitForLimits();
  await agent.stop();
  const again = await dockerIds();
  observed = undefined;
  agent = startAgent();
  await waitForLimits();
  expect(await dockerIds()).toEqual(again);
  expect(again).toHaveLength(before.length);
});

it("limits apply after a restart of Docker, which ends its containers", async () => {
  const startedAt = async () =>
    (await daemon.docker.getContainer(dockerIdOf("app")).inspect()).State.StartedAt;
  const before = await startedAt();
  await daemon.kill();
  observed = undefined;
  await daemon.start();
  await waitForLimits();
  expect(await startedAt()).not.toBe(before);
});

it("limits apply after a reboot, which leaves no running container, no cgroup and no mount", async () => {
  await agent.stop();
  const version = (await daemon.docker.info()).CgroupVersion === "2" ? 2 : 1;
  const running = await daemon.docker.listContainers();
  await Promise.all(running.map(({ Id }) => daemon.docker.getContainer(Id).kill()));
  await daemon.kill();
  const { signal } = new AbortController();
  const cgroups = createSetCgroups({ hostId, root: cgroupRoot, version, driver: "cgroupfs" });
  await cgroups.remove(set.setId, signal);
  expect(await cgroups.list()).toEqual([]);
  await harness.reboot();
  await daemon.start();
  observed = undefined;
  agent = startAgent();
  await waitForLimits();
});
