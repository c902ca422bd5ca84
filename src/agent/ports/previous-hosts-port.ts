/** Access to what a deleted host left on this machine, whose agent now has another host id. */
export interface PreviousHostsPort {
  /**
   * Stops and removes all sets of a deleted host. Its volumes become trashed volumes of this host,
   * so that users can restore them until their retention ends. Its cgroup is removed. Idempotent:
   * the next call completes the work of a failed one.
   */
  remove(hostId: string, signal: AbortSignal): Promise<void>;
}
