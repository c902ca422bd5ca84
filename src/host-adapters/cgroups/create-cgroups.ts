import type { CgroupPort } from "../../agent/ports/cgroup-port.ts";
import type { CgroupManager } from "../../agent/ports/daemon-port.ts";
import { createFsCgroups } from "./fs-cgroups.ts";
import type { SetCgroups, SetCgroupsOptions } from "./set-cgroups.ts";
import { createSystemdCgroups } from "./systemd-cgroups.ts";

/** Reports the cgroup manager that the daemon uses now. It may change when the daemon restarts. */
export interface CgroupManagerSource {
  find(): Promise<CgroupManager>;
  /** The manager without a query; undefined before the first answer. */
  known(): CgroupManager | undefined;
}

/** CgroupPort through the manager that the daemon uses. */
export function createCgroups({
  hostId,
  root,
  manager,
}: {
  hostId: string;
  root: string;
  manager: CgroupManagerSource;
}): CgroupPort {
  let last: { manager: CgroupManager; cgroups: SetCgroups } | undefined;
  /** Each report of the daemon is another object. Slices may have stopped with the daemon. */
  const open = (reported: CgroupManager): SetCgroups => {
    if (last?.manager !== reported)
      last = { manager: reported, cgroups: createSetCgroups({ hostId, root, ...reported }) };
    return last.cgroups;
  };
  const find = async () => open(await manager.find());
  return {
    parentOf: async (setId) => (await find()).parentOf(setId),
    ensure: async (setId, limits, signal) => (await find()).ensure(setId, limits, signal),
    read: async (setId) => (await find()).read(setId),
    readContainer: async (setId, dockerId) => (await find()).readContainer(setId, dockerId),
    limitIo: async (setId, dockerId, io, signal) =>
      (await find()).limitIo(setId, dockerId, io, signal),
    readIo: async (setId, dockerId, devices) => (await find()).readIo(setId, dockerId, devices),
    checkContainerMemory: async (setId, container, memoryBytes) =>
      (await find()).checkContainerMemory(setId, container, memoryBytes),
    containerMemoryEvents: async (setId, dockerId) =>
      (await find()).containerMemoryEvents(setId, dockerId),
    listProcesses: async (setId, dockerId) => (await find()).listProcesses(setId, dockerId),
    async memoryUsage() {
      const known = manager.known();
      if (!known) return {};
      const cgroups = open(known);
      const setIds = await cgroups.list();
      const used = await Promise.all(setIds.map((setId) => cgroups.memoryUsage(setId)));
      return Object.assign({}, ...used);
    },
    remove: async (setId, signal) => (await find()).remove(setId, signal),
    list: async () => (await find()).list(),
    removeHost: async (signal) => (await find()).removeHost(signal),
  };
}

/** Cgroups of sets, through one manager. */
export function createSetCgroups(options: SetCgroupsOptions): SetCgroups {
  return options.driver === "systemd" ? createSystemdCgroups(options) : createFsCgroups(options);
}
