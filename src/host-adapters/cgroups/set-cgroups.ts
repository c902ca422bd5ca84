import type { IoLimits } from "../../contracts/api/set-template.ts";
import type { Limits } from "../../agent/model/local-set.ts";
import type { DeviceIo } from "./io-limits.ts";
import type { MemoryEvents } from "./read-cgroup.ts";

/**
 * The cgroup of a set: the parent of its containers' cgroups, with the set's limits. Berth passes
 * it to Docker as the parent. Docker neither limits it nor deletes it.
 *
 * Every host has a folder of its own. So several agents on one machine, as in tests, never see or
 * delete each other's cgroups.
 */
export interface SetCgroups {
  /** Docker's CgroupParent for the containers of a set. */
  parentOf(setId: string): string;
  /**
   * Creates the cgroup if it does not exist, and applies the limits, even while containers run.
   * Throws AgentError; its code is memory-in-use if the set's processes hold more memory than the
   * limit.
   */
  ensure(setId: string, limits: Limits, signal: AbortSignal): Promise<void>;
  /** The kernel's limits; undefined if the cgroup does not exist. */
  read(setId: string): Promise<Limits | undefined>;
  /**
   * The kernel's limits of a running container of the set; undefined if it does not run. Also
   * undefined for systemd, which rounds limits and applies them later. Then Docker's values count.
   */
  readContainer(setId: string, dockerId: string): Promise<Limits | undefined>;
  /**
   * Limits the I/O of a running container to the devices. Version 2 applies limits to descendants,
   * so there it limits the whole set. Does nothing if the kernel has no such limits.
   */
  limitIo(setId: string, dockerId: string, io: DeviceIo, signal: AbortSignal): Promise<void>;
  /** The kernel's limits for each of the devices; undefined if the kernel has no such limits. */
  readIo(
    setId: string,
    dockerId: string,
    devices: readonly string[],
  ): Promise<IoLimits[] | undefined>;
  /**
   * Throws memory-in-use if a lower limit of the container would kill it instead of being refused.
   */
  checkContainerMemory(
    setId: string,
    container: { dockerId: string; name: string },
    memoryBytes: number,
  ): Promise<void>;
  /** Memory counters of a container of the set; undefined if it does not run. */
  containerMemoryEvents(setId: string, dockerId: string): Promise<MemoryEvents | undefined>;
  /** Ids of the processes of a container of the set. */
  listProcesses(setId: string, dockerId: string): Promise<number[]>;
  /**
   * Bytes of memory that the set and its containers hold, without page cache that the kernel can
   * drop. The keys are the set's id and the first 12 characters of container ids.
   */
  memoryUsage(setId: string): Promise<Record<string, number>>;
  /**
   * Deletes the cgroup of a set without containers. Waits up to 5 s for the kernel to notice their
   * exit.
   */
  remove(setId: string, signal: AbortSignal): Promise<void>;
  /** Ids of the sets that have a cgroup. */
  list(): Promise<string[]>;
}

/** The cgroup manager of this machine, as Docker reports it. */
export interface CgroupManager {
  version: 1 | 2;
  driver: "cgroupfs" | "systemd";
}

export interface SetCgroupsOptions extends CgroupManager {
  hostId: string;
  /** Mount point of the cgroup file systems, such as /sys/fs/cgroup. */
  root: string;
}
