/** The container daemon, and the facts about the machine that it knows. */
export interface DaemonPort {
  /**
   * Facts that stay until the daemon restarts. A failed query is repeated at the next call. Rejects
   * with AgentError.
   */
  facts(): Promise<DaemonFeatures>;
  /** The facts of the last query, without a new one; undefined before the first answer. */
  knownFacts(): DaemonFeatures | undefined;
  /** Resolves if the daemon answers within `timeoutMs`, else rejects. Detects a hung daemon. */
  ping(timeoutMs: number): Promise<void>;
}

export interface DaemonFeatures {
  /** True if this machine may give a container all capabilities. */
  canRunPrivileged: boolean;
  /** The daemon has an init that can be process 1 of containers. */
  hasInit: boolean;
  cgroupManager: CgroupManager;
  /** Device numbers of the disks that root file systems and the volumes of images are on. */
  diskDevices: readonly string[];
  /** Such a disk is not a block device, or the agent cannot see it. */
  hasUnknownDisk: boolean;
}

/** The cgroup manager of this machine, as the daemon reports it. */
export interface CgroupManager {
  version: 1 | 2;
  driver: "cgroupfs" | "systemd";
}
