import type { IoLimits } from "../../../contracts/api/set-template.ts";
import type { Limits } from "../../ports/set-port.ts";
import type { DeviceIo } from "./io-limits.ts";
import type { MemoryEvents } from "./read-cgroup.ts";

/**
 * The cgroup of a set as a whole: the parent of the cgroups of all its containers, with the set's CPU quota and memory
 * limit. Docker is told to put the containers below it; it neither makes it with limits nor takes it away again.
 *
 * Every host has a folder of its own, so that several agents on one machine (tests do that) never see, and never clean
 * up, each other's.
 */
export interface SetCgroups {
  /** What Docker takes as a container's CgroupParent. */
  parentOf(setId: string): string;
  /**
   * Makes the cgroup if it is not there, and applies the limits, also to one whose containers run. Throws AgentError, with the
   * code memory-in-use when the set's processes hold more memory than that.
   */
  ensure(setId: string, limits: Limits, signal: AbortSignal): Promise<void>;
  /** The limits as the kernel has them; undefined when there is no cgroup. */
  read(setId: string): Promise<Limits | undefined>;
  /**
   * Of a container of the set that runs, as the kernel has them. Undefined when it does not run, or where Docker's word has to do:
   * systemd rounds limits and applies them again when it likes.
   */
  readContainer(setId: string, dockerId: string): Promise<Limits | undefined>;
  /**
   * Limits what a container of the set that runs reads from and writes to devices; its whole set where the kernel holds cgroups to
   * what is above them (version 2). Nothing is done where the kernel has no such limits.
   */
  limitIo(setId: string, dockerId: string, io: DeviceIo, signal: AbortSignal): Promise<void>;
  /** What holds it on each of the devices, as the kernel has it. Undefined where the kernel has no such limits. */
  readIo(
    setId: string,
    dockerId: string,
    devices: readonly string[],
  ): Promise<IoLimits[] | undefined>;
  /** Throws memory-in-use when narrowing a container of the set to so many bytes would kill it instead of being refused. */
  checkContainerMemory(
    setId: string,
    container: { dockerId: string; name: string },
    memoryBytes: number,
  ): Promise<void>;
  /** Of a container of the set; undefined when it does not run. */
  containerMemoryEvents(setId: string, dockerId: string): Promise<MemoryEvents | undefined>;
  /**
   * Bytes of memory that its processes hold, without page cache that can be dropped, by its id; and each container's, by the first
   * 12 characters of its own.
   */
  memoryUse(setId: string): Promise<Record<string, number>>;
  /** Removes the cgroup, which must have no containers left: waits up to 5 s for the kernel to notice that they are gone. */
  remove(setId: string, signal: AbortSignal): Promise<void>;
  /** Ids of the sets that have a cgroup. */
  list(): Promise<string[]>;
}

export interface SetCgroupsOptions {
  hostId: string;
  /** Where the cgroup file systems are mounted, such as /sys/fs/cgroup. */
  root: string;
  version: 1 | 2;
  /** Who makes cgroups on this machine; Docker says it. */
  driver: "cgroupfs" | "systemd";
}
