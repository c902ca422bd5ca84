import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { totalmem } from "node:os";
import { join } from "node:path";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { Limits } from "../../agent/model/local-set.ts";
import { CPU_PERIOD_US, memoryReservation, toCpuWeight } from "../../agent/model/set-limits.ts";
import { cgroupFailed } from "./cgroup-failed.ts";
import { finiteOr } from "./finite-or.ts";
import { readIo, writeIo } from "./io-limits.ts";
import { memoryInUse } from "../../agent/model/memory-in-use.ts";
import { checkMemory } from "./check-memory.ts";
import {
  readLimits,
  readMemoryCharge,
  readMemoryEvents,
  readMemoryUsage,
  readProcesses,
} from "./read-cgroup.ts";
import type { SetCgroups, SetCgroupsOptions } from "./set-cgroups.ts";
import { createSetFolders } from "./set-folders.ts";
import { ignoreMissing, writeExisting } from "./write-existing.ts";

const folder = "berth";
const dockerId = /^[0-9a-f]{64}$/;

/**
 * Cgroups in the file system, as Docker's "cgroupfs" driver creates them: /berth/<host>/<set>.
 * Version 1 has a hierarchy for each controller, version 2 has one.
 */
export function createFsCgroups({ hostId, root, version }: SetCgroupsOptions): SetCgroups {
  const folders = createSetFolders(root, join(folder, hostId), version);
  const toPlace = (...names: string[]) => ({ root, version, path: join(folder, hostId, ...names) });
  /** Version 1 does not apply a cgroup's I/O limits to its children. */
  const toIoPlace = (setId: string, dockerId: string) =>
    version === 1 ? toPlace(setId, dockerId) : toPlace(setId);
  return {
    parentOf: (setId) => `/${folder}/${hostId}/${setId}`,
    async ensure(setId, limits) {
      const names = [folder, hostId, setId];
      const place = toPlace(setId);
      try {
        const applied =
          version === 1 ? ensureVersion1(root, names, limits) : ensureVersion2(root, names, limits);
        const limitMemory = await applied;
        if (version === 2) checkMemory(place, "the set", limits.memoryBytes);
        await limitMemory();
      } catch (error) {
        if (error instanceof AgentError) throw error;
        if (getErrorCode(error) !== "EBUSY") throw cgroupFailed(error);
        const usedBytes = readMemoryCharge(place);
        throw memoryInUse("the set", { usedBytes, wantedBytes: limits.memoryBytes }, error);
      }
    },
    readContainer: async (setId, dockerId) => readLimits(toPlace(setId, dockerId)),
    async checkContainerMemory(setId, { dockerId, name }, memoryBytes) {
      if (version === 2) checkMemory(toPlace(setId, dockerId), `"${name}"`, memoryBytes);
    },
    read: async (setId) => readLimits(toPlace(setId)),
    async limitIo(setId, dockerId, io) {
      try {
        if (version === 2) await delegateIo(root, [folder, hostId, setId]);
        await writeIo(toIoPlace(setId, dockerId), io);
      } catch (error) {
        throw cgroupFailed(error);
      }
    },
    readIo: async (setId, dockerId, devices) => readIo(toIoPlace(setId, dockerId), devices),
    containerMemoryEvents: async (setId, dockerId) => readMemoryEvents(toPlace(setId, dockerId)),
    listProcesses: async (setId, dockerId) => readProcesses(toPlace(setId, dockerId)),
    memoryUsage: async (setId) =>
      readMemoryUsage(toPlace(setId), setId, (name) => (dockerId.test(name) ? name : undefined)),
    remove: (setId, signal) => folders.remove(setId, signal),
    list: () => folders.list(),
    removeHost: () => folders.removeHost(),
  };
}

/**
 * Applies all limits except memory, which the kernel may refuse, and returns the function that
 * applies memory.
 */
async function ensureVersion1(
  root: string,
  names: string[],
  limits: Limits,
): Promise<() => Promise<void>> {
  const cpu = join(root, "cpu", ...names);
  const memory = join(root, "memory", ...names);
  await Promise.all([
    mkdir(cpu, { recursive: true }),
    makeHierarchical(join(root, "memory"), names),
  ]);
  await Promise.all([
    limitCpuVersion1(cpu, limits.cpuQuotaUs),
    writeFile(join(cpu, "cpu.shares"), String(limits.cpuShares)),
    // Under pressure the kernel first reclaims from cgroups above their reservation.
    writeFile(join(memory, "memory.soft_limit_in_bytes"), finiteOr("-1", limits.reservationBytes)),
    limitPidsVersion1(root, names, limits),
  ]);
  return () => limitMemoryVersion1(memory, finiteOr("-1", limits.memoryBytes));
}

async function limitPidsVersion1(
  root: string,
  names: string[],
  { pidsMax }: Limits,
): Promise<void> {
  const isThere = (await stat(join(root, "pids")).catch(ignoreMissing)) !== undefined;
  if (!isThere) return; // a kernel without that controller
  const path = join(root, "pids", ...names);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, "pids.max"), finiteOr("max", pidsMax));
}

/**
 * Removes a quota of another period first, because with the new period it could be below a
 * container's.
 */
async function limitCpuVersion1(path: string, quotaUs: number): Promise<void> {
  const quota = join(path, "cpu.cfs_quota_us");
  const period = join(path, "cpu.cfs_period_us");
  if (Number(await readFile(period, "utf8")) !== CPU_PERIOD_US) {
    await writeFile(quota, "-1");
    await writeFile(period, String(CPU_PERIOD_US));
  }
  await writeFile(quota, finiteOr("-1", quotaUs));
}

/**
 * Creates the folders one by one and makes each hierarchical before it has children. Otherwise
 * kernels before 5.11 do not count the containers' memory as the set's.
 */
async function makeHierarchical(root: string, names: string[]): Promise<void> {
  let path = root;
  for (const name of names) {
    path = join(path, name);
    const isNew = (await mkdir(path, { recursive: true })) !== undefined;
    const file = join(path, "memory.use_hierarchy");
    if (isNew && (await readFile(file, "utf8").catch(ignoreMissing))?.trim() === "0") {
      await writeFile(file, "1");
    }
  }
}

/**
 * Limits memory, and memory with swap if the kernel counts swap. The second limit must never be
 * below the first.
 */
async function limitMemoryVersion1(path: string, bytes: string): Promise<void> {
  const memory = join(path, "memory.limit_in_bytes");
  const withSwap = join(path, "memory.memsw.limit_in_bytes");
  try {
    await writeFile(memory, bytes);
    await writeExisting(withSwap, bytes);
  } catch (error) {
    // EINVAL: the limit with swap is below the new one
    if (getErrorCode(error) !== "EINVAL") throw error;
    await writeExisting(withSwap, bytes);
    await writeFile(memory, bytes);
  }
}

/** Does for version 2 what `ensureVersion1` does for version 1. */
async function ensureVersion2(
  root: string,
  names: string[],
  limits: Limits,
): Promise<() => Promise<void>> {
  let path = root;
  for (const name of names) {
    await writeFile(join(path, "cgroup.subtree_control"), "+cpu +memory +pids");
    path = join(path, name);
    await mkdir(path, { recursive: true });
    // A set's reservation is effective only up to the reservations of its ancestors. The kernel
    // also divides among the sets what these do not reserve of it.
    if (name !== names.at(-1))
      await writeFile(join(path, "memory.low"), String(memoryReservation(totalmem())));
  }
  await Promise.all([
    writeFile(join(path, "cpu.max"), `${finiteOr("max", limits.cpuQuotaUs)} ${CPU_PERIOD_US}`),
    writeFile(join(path, "cpu.weight"), String(toCpuWeight(limits.cpuShares))),
    writeFile(join(path, "memory.low"), finiteOr("max", limits.reservationBytes)),
    writeFile(join(path, "pids.max"), finiteOr("max", limits.pidsMax)),
    writeExisting(join(path, "memory.swap.max"), "0"),
  ]);
  return () => writeFile(join(path, "memory.max"), finiteOr("max", limits.memoryBytes));
}

/**
 * Delegates the I/O controller down to the set. It is separate, because not every kernel has it.
 */
async function delegateIo(root: string, names: readonly string[]): Promise<void> {
  const controllers = await readFile(join(root, "cgroup.controllers"), "utf8").catch(ignoreMissing);
  if (!controllers?.trim().split(" ").includes("io")) return;
  for (const position of names.keys())
    await writeFile(join(root, ...names.slice(0, position), "cgroup.subtree_control"), "+io");
}

function getErrorCode(error: unknown): unknown {
  return (error as { code?: unknown } | undefined)?.code;
}
