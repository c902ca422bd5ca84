import {
  type ConnectionEnd,
  createConnectionDecider,
} from "../../contracts/network-driver/decide-connection.ts";
import { isAborted } from "../../lib/async/abort.ts";
import type { Log } from "../../lib/log.ts";
import { type FlowNetwork, type LocalPort, nameServerAddress } from "../flows/compile-flows.ts";
import { listPortAddresses } from "../flows/flow-addresses.ts";
import type { SwitchPort, TrackedConnection } from "../ports/switch-port.ts";
import type { Uplink } from "../ports/uplink.ts";
import { RetryOrder } from "./retry-order.ts";
import type { StoredNetworkState } from "./stored-network-state.ts";

/** One network of a pass lists its connections at least once. */
const NETWORKS_PER_PASS_MAX = 32;
const DNS_PORT = 53;
/** After this number of failures in a row, all connections of the network end. */
const SELECTIONS_MAX = 3;

interface ForbiddenConnectionsOptions {
  networkState: StoredNetworkState;
  switchPort: SwitchPort;
  /** Undefined without an uplink: then sets have no name server. */
  uplink: Pick<Uplink, "firstAddress"> | undefined;
  log: Log;
}

/**
 * Ends the open connections that the rules of a network forbid, if a change of the rules requests
 * it. The network state remembers the request until it is done, even after a restart.
 *
 * If the switch cannot select the connections of a network, it ends all of them.
 */
export class ForbiddenConnections {
  readonly #options: ForbiddenConnectionsOptions;
  #networks = new Map<string, FlowNetwork>();
  #localPorts: readonly LocalPort[] = [];
  readonly #order = new RetryOrder<string>();

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
   * failure is only logged: new connections follow the rules already. It delays no other network.
   */
  async end(signal: AbortSignal): Promise<void> {
    const { networkState, log } = this.#options;
    const requests = new Map(
      networkState.listEndRequests().filter(([id, count]) => this.#isInForce(id, count)),
    );
    for (const networkId of this.#order.take([...requests.keys()], NETWORKS_PER_PASS_MAX)) {
      const count = requests.get(networkId) ?? 0;
      try {
        // The flows may have changed since the start of this pass.
        if (!this.#isInForce(networkId, count)) continue;
        await this.#endForbidden(networkId, signal);
        networkState.completeEndRequest(networkId, count);
        this.#order.succeed(networkId);
      } catch (error) {
        if (isAborted(signal)) return;
        const failures = this.#order.fail(networkId);
        if (failures === 1)
          log.warn({ err: error, networkId }, "cannot end the connections that rules forbid");
        if (failures >= SELECTIONS_MAX && (await this.#endAll(networkId, signal))) {
          networkState.completeEndRequest(networkId, count);
          this.#order.succeed(networkId);
        }
      }
    }
  }

  /** Whether the flows in force have the rules of the request. Otherwise they permit too much. */
  #isInForce(networkId: string, count: number): boolean {
    const network = this.#networks.get(networkId);
    return network?.endConnectionsCount === count && network.deniesNew !== true;
  }

  async #endForbidden(networkId: string, signal: AbortSignal): Promise<void> {
    const network = this.#networks.get(networkId);
    if (!network) return;
    const localPorts = this.#localPorts.filter((port) => port.networkId === networkId);
    const { uplink, switchPort } = this.#options;
    const nameServer = uplink && nameServerAddress(uplink.firstAddress);
    const isSelected = selectForbidden(network, localPorts, nameServer);
    const zone = network.conntrackZone;
    await switchPort.endConnections({ zone, isSelected }, signal);
  }

  /** Returns false if the switch fails again. */
  async #endAll(networkId: string, signal: AbortSignal): Promise<boolean> {
    const zone = this.#networks.get(networkId)?.conntrackZone;
    if (zone === undefined) return false;
    try {
      await this.#options.switchPort.endConnections({ zone }, signal);
      this.#options.log.warn({ networkId }, "ended all connections of a network");
      return true;
    } catch {
      return false; // the next pass repeats it
    }
  }
}

/**
 * Returns a function that is true for the connections that the rules of the network forbid. No rule
 * forbids queries to the name server: see compileNameQueries.
 */
function selectForbidden(
  { rules = [], services = [], gateways, remotePorts }: FlowNetwork,
  localPorts: readonly { mac: string; addresses: readonly string[] }[],
  nameServer: string | undefined,
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
  return ({ from, to, protocol, port }) => {
    const isQuery = to === nameServer && port === DNS_PORT;
    return !isQuery && !decide({ from: endOf(from), to: endOf(to), protocol, port }).isAllowed;
  };
}
