import type { Reason, ResourceAmounts } from "../../contracts/common/primitives.ts";

/** The resources that all processes of a machine use, and the resources that sets may use. */
export interface MachineUsage {
  used: ResourceAmounts;
  allocatable: ResourceAmounts;
  /**
   * Bytes of trashed volumes that the host may purge when it needs space. Part of the used volume
   * bytes.
   */
  reclaimableVolumeBytes: number;
  /** Bytes of all trashed volumes. */
  trashedVolumeBytes: number;
  /**
   * The problem with the host's volumes: no capacity, or volumes with unreadable tags. Otherwise
   * the limit of the machine that admits few more sets.
   */
  volumeReason: Reason | null;
  /** The number of sets above which no container starts on the machine. Null if unknown. */
  setsMax?: number | null;
}

/** Measures the machine without the Docker daemon, so that a hung daemon does not stop reports. */
export interface MachinePort {
  /**
   * Measures the machine. CPU usage is a smoothed value, not a peak. Callers wait some seconds
   * between calls.
   * @param sets the number of sets on the host
   */
  measure(sets: number): Promise<MachineUsage>;
}
