/** The states of one pass of a copy of a volume to another host. */
export const transferStates = ["requested", "copying", "copied", "failed"] as const;
export type TransferState = (typeof transferStates)[number];

/** The limits of a service for moves of its sets with their volumes. */
export interface VolumeMoves {
  /** The longest time for which a set is stopped. */
  maxDowntimeSeconds: number;
}
