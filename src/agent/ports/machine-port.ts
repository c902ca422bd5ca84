import type { Reason, ResourceAmounts } from "../../contracts/common/primitives.ts";

/** What all processes of a machine use, and what sets may use of it. */
export interface MachineUsage {
  used: ResourceAmounts;
  allocatable: ResourceAmounts;
  /** Of the used volume bytes: of trashed volumes that are purged as soon as their room is needed. */
  reclaimableVolumeBytes: number;
  /** Of everything in the trash. */
  trashedVolumeBytes: number;
  /** What is wrong with the host's volumes: it has no room for them, or some are left alone. */
  volumeReason: Reason | null;
}

/** Measures the machine itself, and never by way of the Docker daemon: a hung daemon must not stop reports. */
export interface MachinePort {
  /** CPU is what has lasted for some time, not a peak. Calls come some seconds apart. */
  measure(): Promise<MachineUsage>;
}
