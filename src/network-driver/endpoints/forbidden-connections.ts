import {
  type ConnectionEnd,
  createConnectionDecider,
} from "../../contracts/network-driver/decide-connection.ts";
import { isAborted } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import type { FlowNetwork, LocalPort } from "../flows/compile-flows.ts";
import { listPortAddresses } from "../flows/flow-addresses.ts";
import type { SwitchPort, TrackedConnection } from "../ports/switch-port.ts";
import type { StoredNetworkState } from "./stored-network-state.ts";

/** One network of a pass lists its connections at least once. */
const NETWORKS_PER_PASS_MAX = 32;

interface ForbiddenConnectionsOptions {
  networkState: StoredNetworkState;
  switchPort: SwitchPort;
  log: Log;
}

/**
 * Ends the open connections that the rules of a network forbid, if a change of the rules requests
 * it. The network state remembers the request until it is done, even after a restart.
 */
export class ForbiddenConnections {
  readonly #options: ForbiddenConnectionsOptions;
  #networks = new Map<string, FlowNetwork>();
  #localPorts: readonly LocalPort[] = [];
  #hasFailed = false;

  constructor(options: ForbiddenConnectionsOptions) {
    this.#options = options;
  }

  /** Call it when the flows of these networks and ports are in force. */
  update(networks: readonly FlowNetwork[], localPorts: readonly LocalPort[]): void {
    this.#networks = new Map(networks.map((network) => [network.networkId, network]));
    this.#localPorts = localPorts;
  }

  /**
   * Ends the connections of at most NETWORKS_PER_PASS_MAX networks. The caller repeats it. A
   * failure is only logged: new connections follow the rules already.
   */
  async end(signal: AbortSignal): Promise<void> {
    const { networkState, switchPort, log } = this.#options;
    for (const [networkId, count] of networkState.listEndRequests().slice(0, NETWORKS_PER_PASS_MAX))
      try {
        const network = this.#networks.get(networkId);
        if (network) {
          const isSelected = selectForbidden(
            network,
            this.#localPorts.filter((port) => port.networkId === networkId),
          );
          await switchPort.endConnections({ zone: network.conntrackZone, isSelected }, signal);
        }
        networkState.completeEndRequest(networkId, count);
        this.#hasFailed = false;
      } catch (error) {
        if (isAborted(signal)) return;
        if (!this.#hasFailed)
          log.warn({ err: error, networkId }, "cannot end the connections that rules forbid");
        this.#hasFailed = true;
        return;
      }
  }
}

/** Returns a function that is true for the connections that the rules of the network forbid. */
export function selectForbidden(
  { rules = [], services = [], gateways, remotePorts }: FlowNetwork,
  localPorts: readonly { mac: string; addresses: readonly string[] }[],
): (connection: TrackedConnection) => boolean {
  const decide = createConnectionDecider(rules);
  const serviceIds = new Map<string, string>();
  for (const { serviceId, members } of services)
    for (const { addresses } of members)
      for (const address of addresses)
        if (!serviceIds.has(address)) serviceIds.set(address, serviceId);
  const ends = new Map<string, ConnectionEnd>();
  for (const address of gateways)
    ends.set(address, { address, serviceId: null, isInNetwork: true });
  for (const { mac, addresses } of [...localPorts, ...remotePorts]) {
    const member = addresses.find((address) => serviceIds.has(address));
    const serviceId = (member === undefined ? undefined : serviceIds.get(member)) ?? null;
    for (const address of listPortAddresses(mac, addresses))
      ends.set(address, { address, serviceId, isInNetwork: true });
  }
  const endOf = (address: string): ConnectionEnd =>
    ends.get(address) ?? { address, serviceId: null, isInNetwork: false };
  return ({ from, to, protocol, port }) =>
    !decide({ from: endOf(from), to: endOf(to), protocol, port }).isAllowed;
}
