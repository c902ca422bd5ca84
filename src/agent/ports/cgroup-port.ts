import type { IoLimits } from "../../contracts/api/set-template.ts";
import type { Limits } from "../model/local-set.ts";

/**
 * The cgroups of sets. A set's cgroup is the parent of its containers' cgroups, with the limits of
 * the set. Docker gets it as the parent, and neither limits nor deletes it.
 *
 * Every host has a folder of its own. So several agents on one machine, as in tests, never see or
 * delete each other's cgroups. A call rejects with AgentError.
 */
export interface CgroupPort {
  /** Docker's CgroupParent for the containers of a set. */
  parentOf(setId: string): Promise<string>;
  /**
   * Creates the cgroup if it does not exist, and applies the limits, even while containers run.
   * Rejects with memory-in-use if the set's processes hold more memory than the limit.
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
   * Rejects with memory-in-use if a lower limit of the container would kill it instead of being
   * refused.
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
   * Bytes of memory that sets and their containers hold, without page cache that the kernel can
   * drop. The keys are set ids and the first 12 characters of container ids. Empty until the
   * daemon has reported its cgroup manager, and it does not wait for that.
   */
  memoryUsage(): Promise<Record<string, number>>;
  /**
   * Deletes the cgroup of a set without containers. Waits up to 5 s for the kernel to notice their
   * exit.
   */
  remove(setId: string, signal: AbortSignal): Promise<void>;
  /** Ids of the sets that have a cgroup. */
  list(): Promise<string[]>;
  /**
   * Deletes the cgroup that contains those of all sets of this host. Only for a deleted host. Does
   * nothing if it does not exist. Rejects with cgroup-busy while a cgroup or a process is in it.
   */
  removeHost(signal: AbortSignal): Promise<void>;
}

/** Limits that apply to each of the devices. */
export interface DeviceIo {
  devices: readonly string[];
  limits: IoLimits;
}

/** Memory counters of a cgroup since its creation. */
export interface MemoryEvents {
  /** Processes that the kernel killed because the cgroup had no memory left. */
  oomKills: number;
  /** Highest charge, page cache included; undefined if the kernel does not report it. */
  peakBytes: number | undefined;
}
