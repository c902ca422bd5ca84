import { readdir } from "node:fs/promises";
import { totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { assert } from "../../lib/assert.ts";
import type { Limits } from "../../agent/model/local-set.ts";
import { isLimited, memoryReservation, toCpuWeight } from "../../agent/model/set-limits.ts";
import { cgroupFailed } from "./cgroup-failed.ts";
import { readIo, writeIo } from "./io-limits.ts";
import { checkMemory, isMemoryHeld } from "./check-memory.ts";
import {
  type CgroupPlace,
  readLimits,
  readMemoryEvents,
  readMemoryUsage,
  readProcesses,
} from "./read-cgroup.ts";
import type { SetCgroups, SetCgroupsOptions } from "./set-cgroups.ts";
import { createSetFolders, isSetId } from "./set-folders.ts";
import { createSlicesAbove } from "./slices-above.ts";
import {
  clearPreviousSettings,
  clearIoSettings,
  ensureSlice,
  type SliceProperty,
  stopSlice,
  toSystemdLimit,
} from "./systemd-slices.ts";
import { finiteOr } from "./finite-or.ts";
import { ignoreMissing, writeExisting } from "./write-existing.ts";

/** systemd counts CPU time per second, and Berth per period of 100 ms. */
const periodsPerSecond = 10;
/** Between the two checks of an empty slice: a start of a set that has begun is visible then. */
const emptyCheckIntervalMs = 1_000;

/**
 * Cgroups through systemd, as Docker's "systemd" driver requires: one transient slice for each set.
 * Dashes in a slice's name nest it: berth-<host>-<set>.slice is in berth-<host>.slice in
 * berth.slice. systemd owns the files, so limits are properties of the slice. They last until the
 * slice stops or the machine boots.
 *
 * I/O limits of version 2 are the exception. systemd replaces a device-mapper device, such as a
 * logical volume, by the disk below it. So the limit would apply to another device. Berth writes
 * these limits to the kernel. systemd changes only the devices of its own settings in that file.
 */
export function createSystemdCgroups({ hostId, root, version }: SetCgroupsOptions): SetCgroups {
  const {
    hostSlice,
    hostPath,
    slicesAbove,
    hostFolder,
    toSliceName,
    toPlace,
    toScopePlace,
    toIoPlace,
    parseSetId,
  } = createSliceNames({ hostId, root, version });
  // Otherwise systemd starts the slices above the set's with default dependencies. A set's
  // reservation is effective only up to their reservations, of which the kernel also divides among
  // the sets what these do not reserve.
  const reserved: SliceProperty[] =
    version === 1 ? [] : [["MemoryLow", "t", toSystemdLimit(memoryReservation(totalmem()))]];
  const above = createSlicesAbove(hostFolder, async (signal) => {
    for (const slice of slicesAbove)
      await ensureSlice(slice, reserved, { isRunning: false }, signal);
  });
  return {
    parentOf: toSliceName,
    async ensure(setId, limits, signal) {
      const place = toPlace(setId);
      const seen = readLimits(place);
      if (!seen || !above.areReserved()) await above.ensure(signal);
      if (seen && isLimited(seen, limits)) return;
      const { memory, others } = sliceProperties(limits, version);
      const isRefused = isMemoryHeld(place, limits.memoryBytes);
      const properties = isRefused ? others : [...others, ...memory];
      await ensureSlice(toSliceName(setId), properties, { isRunning: seen !== undefined }, signal);
      if (version === 1) await reserveVersion1(place, limits);
      checkMemory(place, "the set", limits.memoryBytes);
    },
    readContainer: async () => undefined,
    async checkContainerMemory(setId, { dockerId, name }, memoryBytes) {
      const place = toScopePlace(setId, dockerId);
      if (version === 2) checkMemory(place, `"${name}"`, memoryBytes);
    },
    read: async (setId) => readLimits(toPlace(setId)),
    async limitIo(setId, dockerId, io, signal) {
      if (version === 2) await clearIoSettings(toSliceName(setId), signal);
      await writeIo(toIoPlace(setId, dockerId), io).catch((error: unknown) => {
        throw cgroupFailed(error);
      });
    },
    readIo: async (setId, dockerId, devices) => readIo(toIoPlace(setId, dockerId), devices),
    containerMemoryEvents: async (setId, dockerId) =>
      readMemoryEvents(toScopePlace(setId, dockerId)),
    listProcesses: async (setId, dockerId) => readProcesses(toScopePlace(setId, dockerId)),
    memoryUsage: async (setId) =>
      readMemoryUsage(
        toPlace(setId),
        setId,
        (name) => /^docker-([0-9a-f]{64})\.scope$/.exec(name)?.[1],
      ),
    async remove(setId, signal) {
      await stopSlice(toSliceName(setId), signal);
      await clearPreviousSettings(toSliceName(setId));
    },
    async list() {
      const names = (await readdir(hostFolder).catch(ignoreMissing)) ?? [];
      return names.map(parseSetId).filter((setId) => setId !== undefined);
    },
    async removeHost(signal) {
      // A stop of the slice also stops what is in it, unlike the removal of a folder.
      const folders = createSetFolders(root, hostPath, version);
      await folders.checkHostEmpty();
      await delay(emptyCheckIntervalMs, undefined, { signal });
      await folders.checkHostEmpty();
      await stopSlice(hostSlice, signal);
      await clearPreviousSettings(hostSlice);
    },
  };
}

/** Names of the slices of a host, and their folders. */
function createSliceNames({ hostId, root, version }: Omit<SetCgroupsOptions, "driver">) {
  assert(!hostId.includes("-"), "a host id with a dash would nest slices");
  const hostSlice = `berth-${hostId}`;
  const hostPath = join("berth.slice", `${hostSlice}.slice`);
  const toSliceName = (setId: string) => `${hostSlice}-${setId}.slice`;
  const toPlace = (setId: string): CgroupPlace => ({
    root,
    version,
    path: join(hostPath, toSliceName(setId)),
  });
  const toScopePlace = (setId: string, dockerId: string): CgroupPlace => ({
    root,
    version,
    path: join(hostPath, toSliceName(setId), `docker-${dockerId}.scope`),
  });
  return {
    hostSlice: `${hostSlice}.slice`,
    hostPath,
    slicesAbove: ["berth.slice", `${hostSlice}.slice`],
    /** Contains a folder for each set. */
    hostFolder: join(root, version === 1 ? "memory" : ".", hostPath),
    toSliceName,
    toPlace,
    toScopePlace,
    /** Version 1 does not apply a cgroup's I/O limits to its children. */
    toIoPlace: (setId: string, dockerId: string) =>
      version === 1 ? toScopePlace(setId, dockerId) : toPlace(setId),
    /** Undefined if the folder is not the slice of a set. */
    parseSetId: (folder: string): string | undefined => {
      if (!folder.startsWith(`${hostSlice}-`) || !folder.endsWith(".slice")) return undefined;
      const setId = folder.slice(hostSlice.length + 1, -".slice".length);
      return isSetId(setId) ? setId : undefined;
    },
  };
}

/** The memory limit, which the kernel may refuse, and all other limits. */
export function sliceProperties(
  { cpuQuotaUs, cpuShares, memoryBytes, reservationBytes = Infinity, pidsMax = Infinity }: Limits,
  version: 1 | 2,
): { memory: SliceProperty[]; others: SliceProperty[] } {
  return {
    memory: [["MemoryMax", "t", toSystemdLimit(memoryBytes)]],
    others: [
      ["CPUQuotaPerSecUSec", "t", toSystemdLimit(cpuQuotaUs * periodsPerSecond)],
      version === 1
        ? ["CPUShares", "t", String(cpuShares)]
        : ["CPUWeight", "t", String(toCpuWeight(cpuShares))],
      ...(version === 1
        ? []
        : ([["MemoryLow", "t", toSystemdLimit(reservationBytes)]] satisfies SliceProperty[])),
      ["TasksMax", "t", toSystemdLimit(pidsMax)],
      ["MemorySwapMax", "t", "0"],
    ],
  };
}

/** systemd has no soft limit of version 1 and does not touch that file. */
async function reserveVersion1({ root, path }: CgroupPlace, limits: Limits): Promise<void> {
  const file = join(root, "memory", path, "memory.soft_limit_in_bytes");
  await writeExisting(file, finiteOr("-1", limits.reservationBytes));
}
