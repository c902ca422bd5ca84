import type { CgroupPort } from "../../agent/ports/cgroup-port.ts";
import type { CgroupManager } from "../../agent/ports/daemon-port.ts";

/** CgroupPort through one cgroup manager. */
export interface SetCgroups extends Omit<CgroupPort, "parentOf" | "memoryUsage"> {
  parentOf(setId: string): string;
  /** CgroupPort.memoryUsage for one set. */
  memoryUsage(setId: string): Promise<Record<string, number>>;
}

export interface SetCgroupsOptions extends CgroupManager {
  hostId: string;
  /** Mount point of the cgroup file systems, such as /sys/fs/cgroup. */
  root: string;
}
