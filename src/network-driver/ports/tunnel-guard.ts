/**
 * The packet filter that protects the tunnels of all hosts from the containers on Docker's bridge.
 * A host trusts a packet of the tunnel by its outer source address. Docker gives the packets of
 * these containers the address of their host. So they must not reach the UDP port of a tunnel.
 */
export interface TunnelGuard {
  /**
   * Ensures that UDP packets to the tunnel's port enter only on the interface of `tunnelAddress`.
   * If it is null, they enter on none. Idempotent, has a deadline, and rejects with SwitchError.
   */
  ensure(tunnelAddress: string | null, signal: AbortSignal): Promise<void>;
}
