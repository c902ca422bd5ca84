/**
 * Notices that another program has changed the driver's packet filter, for example by a flush. It
 * ignores the list of published ports, which changes with their sets.
 */
export interface FilterWatch {
  /** Call it when the packet filter is complete. Rejects with SwitchError. */
  remember(signal: AbortSignal): Promise<void>;
  /**
   * Whether the packet filter is the remembered one. True before the first call of `remember`. It
   * costs two programs. Rejects with SwitchError.
   */
  isUnchanged(signal: AbortSignal): Promise<boolean>;
}
