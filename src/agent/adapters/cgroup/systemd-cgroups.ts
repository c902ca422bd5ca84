import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../../lib/assert.ts";
import { AgentError } from "../../agent-error.ts";
import { runCommand } from "../../exec.ts";
import type { Limits } from "../../ports/set-port.ts";
import { CPU_PERIOD_US, toCpuWeight } from "../../set-limits.ts";
import { cgroupFailed } from "./cgroup-failed.ts";
import { finiteOr } from "./finite-or.ts";
import { ioProperties, readIo, writeIo } from "./io-limits.ts";
import { checkMemory, isMemoryHeld } from "./memory-in-use.ts";
import {
  type CgroupPlace,
  readLimits,
  readMemoryEvents,
  readMemoryUsage,
  readProcesses,
} from "./read-cgroup.ts";
import type { SetCgroups, SetCgroupsOptions } from "./set-cgroups.ts";
import { isSetId } from "./set-folders.ts";
import { ignoreMissing, writeExisting } from "./write-existing.ts";

const commandTimeoutMs = 10_000;
const systemctl = "/usr/bin/systemctl";

/**
 * Cgroups through systemd, as Docker's "systemd" driver requires: one slice for each set. Dashes in
 * a slice's name nest it: berth-<host>-<set>.slice is in berth-<host>.slice in berth.slice. systemd
 * owns the files, so limits are properties of the slice. They last until the next boot, like the
 * slice.
 */
export function createSystemdCgroups({ hostId, root, version }: SetCgroupsOptions): SetCgroups {
  assert(!hostId.includes("-"), "a host id with a dash would nest slices");
  const hostSlice = `berth-${hostId}`;
  const toSliceName = (setId: string) => `${hostSlice}-${setId}.slice`;
  const toPlace = (setId: string, ...names: string[]) => ({
    root,
    version,
    path: join("berth.slice", `${hostSlice}.slice`, toSliceName(setId), ...names),
  });
  let isReservedAbove = version === 1;
  /** A set's reservation is effective only up to the reservations of the slices above it. */
  const reserveAbove = async (signal: AbortSignal) => {
    if (isReservedAbove) return;
    for (const slice of ["berth.slice", `${hostSlice}.slice`])
      await run(["set-property", "--runtime", "--", slice, "MemoryLow=infinity"], signal);
    isReservedAbove = true;
  };
  const toScopeName = (dockerId: string) => `docker-${dockerId}.scope`;
  return {
    parentOf: toSliceName,
    async ensure(setId, limits, signal) {
      await run(["start", "--", toSliceName(setId)], signal);
      await reserveAbove(signal);
      const { memory, others } = sliceProperties(limits, version);
      const isRefused = isMemoryHeld(toPlace(setId), limits.memoryBytes);
      const properties = isRefused ? others : [...others, ...memory];
      await run(["set-property", "--runtime", "--", toSliceName(setId), ...properties], signal);
      if (version === 1) await reserveVersion1(toPlace(setId), limits);
      checkMemory(toPlace(setId), "the set", limits.memoryBytes);
    },
    readContainer: async () => undefined,
    async checkContainerMemory(setId, { dockerId, name }, memoryBytes) {
      const place = toPlace(setId, toScopeName(dockerId));
      if (version === 2) checkMemory(place, `"${name}"`, memoryBytes);
    },
    read: async (setId) => readLimits(toPlace(setId)),
    async limitIo(setId, dockerId, io, signal) {
      // In version 1, systemd manages only units with limits, and Docker writes the containers'
      // files directly.
      if (version === 1) {
        await writeIo(toPlace(setId, toScopeName(dockerId)), io).catch((error: unknown) => {
          throw cgroupFailed(error);
        });
        return;
      }
      const properties = ioProperties(io);
      if (properties.length > 0)
        await run(["set-property", "--runtime", "--", toSliceName(setId), ...properties], signal);
    },
    readIo: async (setId, dockerId, devices) =>
      readIo(version === 1 ? toPlace(setId, toScopeName(dockerId)) : toPlace(setId), devices),
    containerMemoryEvents: async (setId, dockerId) =>
      readMemoryEvents(toPlace(setId, toScopeName(dockerId))),
    listProcesses: async (setId, dockerId) => readProcesses(toPlace(setId, toScopeName(dockerId))),
    memoryUsage: async (setId) =>
      readMemoryUsage(
        toPlace(setId),
        setId,
        (name) => /^docker-([0-9a-f]{64})\.scope$/.exec(name)?.[1],
      ),
    async remove(setId, signal) {
      await run(["stop", "--", toSliceName(setId)], signal);
    },
    async list() {
      const hierarchy = version === 1 ? "memory" : ".";
      const path = join(root, hierarchy, "berth.slice", `${hostSlice}.slice`);
      const names = (await readdir(path).catch(ignoreMissing)) ?? [];
      return names
        .filter((name) => name.startsWith(`${hostSlice}-`) && name.endsWith(".slice"))
        .map((name) => name.slice(hostSlice.length + 1, -".slice".length))
        .filter(isSetId);
    },
  };
}

/**
 * The memory limit, which the kernel may refuse, and all other limits. CPUQuota is a percentage of
 * one core; systemd ignores fractions below 0.1 percent. An empty value means no limit.
 */
export function sliceProperties(
  { cpuQuotaUs, cpuShares, memoryBytes, reservationBytes, pidsMax }: Limits,
  version: 1 | 2,
): { memory: string[]; others: string[] } {
  const percent = Math.max(1, (cpuQuotaUs * 100) / CPU_PERIOD_US);
  return {
    memory: [`MemoryMax=${finiteOr("infinity", memoryBytes)}`],
    others: [
      Number.isFinite(percent) ? `CPUQuota=${percent}%` : "CPUQuota=",
      version === 1 ? `CPUShares=${cpuShares}` : `CPUWeight=${toCpuWeight(cpuShares)}`,
      ...(version === 1 ? [] : [`MemoryLow=${finiteOr("infinity", reservationBytes)}`]),
      `TasksMax=${finiteOr("infinity", pidsMax)}`,
      "MemorySwapMax=0",
    ],
  };
}

/** systemd has no soft limit of version 1 and does not touch that file. */
async function reserveVersion1({ root, path }: CgroupPlace, limits: Limits): Promise<void> {
  const file = join(root, "memory", path, "memory.soft_limit_in_bytes");
  await writeExisting(file, finiteOr("-1", limits.reservationBytes));
}

async function run(args: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await runCommand(systemctl, args, { timeoutMs: commandTimeoutMs, signal });
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new AgentError("cgroup-failed", `systemd refused the set's limits: ${detail}`, {
      phase: "prepare",
      temporary: true,
      cause: error,
    });
  }
}
