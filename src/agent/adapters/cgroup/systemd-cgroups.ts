import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../../lib/assert.ts";
import { AgentError } from "../../agent-error.ts";
import { runCommand } from "../../exec.ts";
import type { Limits } from "../../ports/set-port.ts";
import { CPU_PERIOD_US, SET_PIDS_MAX, toCpuWeight } from "../../set-limits.ts";
import { checkMemory } from "./memory-in-use.ts";
import { readLimits, readMemoryEvents, readMemoryUse } from "./read-cgroup.ts";
import type { SetCgroups, SetCgroupsOptions } from "./set-cgroups.ts";
import { isSetId } from "./set-folders.ts";

const commandTimeoutMs = 10_000;
const systemctl = "/usr/bin/systemctl";

/**
 * Cgroups made by systemd, as Docker's "systemd" driver wants it: a slice for each set, named after its place
 * (berth-<host>-<set>.slice lies in berth-<host>.slice in berth.slice), because dashes are what nests slices. systemd
 * owns the files, so limits are properties of the slice; they last until the next boot, as the slice does.
 */
export function createSystemdCgroups({ hostId, root, version }: SetCgroupsOptions): SetCgroups {
  assert(!hostId.includes("-"), "a host id with a dash would nest slices");
  const hostSlice = `berth-${hostId}`;
  const sliceOf = (setId: string) => `${hostSlice}-${setId}.slice`;
  const placeOf = (setId: string, ...names: string[]) => ({
    root,
    version,
    path: join("berth.slice", `${hostSlice}.slice`, sliceOf(setId), ...names),
  });
  const scopeOf = (dockerId: string) => `docker-${dockerId}.scope`;
  return {
    parentOf: sliceOf,
    async ensure(setId, limits, signal) {
      checkMemory(placeOf(setId), "the set", limits.memoryBytes);
      await run(["start", "--", sliceOf(setId)], signal);
      const properties = sliceProperties(limits, version);
      await run(["set-property", "--runtime", "--", sliceOf(setId), ...properties], signal);
    },
    async checkContainerMemory(setId, { dockerId, name }, memoryBytes) {
      const place = placeOf(setId, scopeOf(dockerId));
      if (version === 2) checkMemory(place, `"${name}"`, memoryBytes);
    },
    read: async (setId) => readLimits(placeOf(setId)),
    containerMemoryEvents: async (setId, dockerId) =>
      readMemoryEvents(placeOf(setId, scopeOf(dockerId))),
    memoryUse: async (setId) => readMemoryUse(placeOf(setId)),
    async remove(setId, signal) {
      await run(["stop", "--", sliceOf(setId)], signal);
    },
    async list() {
      const hierarchy = version === 1 ? "memory" : ".";
      const path = join(root, hierarchy, "berth.slice", `${hostSlice}.slice`);
      const names = await readdir(path).catch((error: unknown) => {
        if ((error as { code?: unknown }).code === "ENOENT") return [];
        throw error;
      });
      return names
        .filter((name) => name.startsWith(`${hostSlice}-`) && name.endsWith(".slice"))
        .map((name) => name.slice(hostSlice.length + 1, -".slice".length))
        .filter(isSetId);
    },
  };
}

/** CPUQuota is in percent of one core; systemd knows no fraction of a percent below 0.1. Empty, it is none. */
export function sliceProperties(limits: Limits, version: 1 | 2): string[] {
  const { cpuQuotaUs, cpuShares, memoryBytes } = limits;
  const percent = Math.max(1, (cpuQuotaUs * 100) / CPU_PERIOD_US);
  return [
    Number.isFinite(percent) ? `CPUQuota=${percent}%` : "CPUQuota=",
    version === 1 ? `CPUShares=${cpuShares}` : `CPUWeight=${toCpuWeight(cpuShares)}`,
    `MemoryMax=${Number.isFinite(memoryBytes) ? memoryBytes : "infinity"}`,
    `TasksMax=${SET_PIDS_MAX}`,
    "MemorySwapMax=0",
  ];
}

async function run(args: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await runCommand(systemctl, args, { timeoutMs: commandTimeoutMs, signal });
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new AgentError("cgroup-failed", `systemd did not take the set's limits: ${detail}`, {
      phase: "prepare",
      temporary: true,
      cause: error,
    });
  }
}
