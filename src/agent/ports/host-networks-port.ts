import type { HostNetworks } from "../../contracts/agent-protocol/host-networks.ts";

/** The networks of this host as the control plane knows them. */
export interface HostNetworksPort {
  /**
   * Reads them. Waits up to `waitMs` while they have the given version. The call has a deadline of
   * its own beyond `waitMs`. Rejects like ControlPlane.sync.
   */
  read(
    query: { version: string | undefined; waitMs: number },
    signal: AbortSignal,
  ): Promise<HostNetworks>;
}
