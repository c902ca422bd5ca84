import type { HostNetworks } from "../../contracts/agent-protocol/host-networks.ts";

/** The networks of this host as the control plane knows them. */
export interface HostNetworksPort {
  /**
   * Reads them. Waits up to `waitMs` while they have the given version. With `networkVersions`, the
   * answer may have changes instead of whole networks: see applyNetworkChanges. Beyond the first
   * 64 versions, the API sends networks whole. The answer has members for gateways only with
   * `knowsGateways`. The call has a deadline of its own beyond `waitMs`. Rejects like
   * ControlPlane.sync.
   */
  read(query: NetworksQuery, signal: AbortSignal): Promise<NetworksAnswer>;
}

export interface NetworksQuery {
  version: string | undefined;
  networkVersions: readonly string[] | undefined;
  waitMs: number;
  knowsGateways: boolean;
}

/** A newer API may send changes that this agent cannot apply. */
export type NetworksAnswer = Omit<HostNetworks, "changes"> & { changes?: unknown[] | undefined };
