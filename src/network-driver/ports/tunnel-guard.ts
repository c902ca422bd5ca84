/**
 * The packet filter of the host in front of the tunnel. A packet of the tunnel is trusted by its
 * outer source address, and Docker gives the packets of its bridge that of the host. So containers
 * there must not reach the tunnel's UDP port of any host.
 */
export interface TunnelGuard {
  /**
   * Ensures that UDP packets for the tunnel enter only on the interface of `tunnelAddress`, and
   * nowhere without one. Idempotent, has a deadline, and rejects with SwitchError.
   */
  ensure(tunnelAddress: string | null, signal: AbortSignal): Promise<void>;
}
