import type { DriverStatus } from "../../contracts/network-driver/driver-status.ts";
import type { NetworkState } from "../../contracts/network-driver/network-state.ts";

/** The network driver of this host, a process of its own. A call rejects with AgentError. */
export interface NetworkDriverPort {
  /** Rejects if the driver does not answer in time, or if its answer is invalid. */
  status(signal: AbortSignal): Promise<DriverStatus>;
  /**
   * Sends the networks of this host. `isApplied` is false if the driver will apply their flows
   * later. Rejects if it has a newer version of the same source.
   */
  putNetworkState(state: NetworkState, signal: AbortSignal): Promise<{ isApplied: boolean }>;
}
