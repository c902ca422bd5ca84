import {
  type ConnectionEnd,
  createConnectionDecider,
} from "../../contracts/network-driver/decide-connection.ts";
import type { Log } from "../../lib/log.ts";
import { type FlowNetwork, type LocalPort, nameServerAddress } from "../flows/compile-flows.ts";
import { listPortAddresses } from "../flows/flow-addresses.ts";
import type { SwitchPort, TrackedConnection } from "../ports/switch-port.ts";
import type { Uplink } from "../ports/uplink.ts";
import { FairRetries } from "./fair-retries.ts";
import type { StoredNetworkState } from "./stored-network-state.ts";

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
  readonly #retries = new FairRetries<string>();

  constructor(options: ForbiddenConnectionsOptions) {
    this.#options = options;
  }

  /** See FairRetries. */
  findLastingError(): unknown {
    return this.#retries.findLastingError();
  }

  /** Call it when the flows of these networks and ports are in force. */
  update(networks: readonly FlowNetwork[], localPorts: readonly LocalPort[]): void {
    this.#networks = new Map(networks.map((network) => [network.networkId, network]));
    this.#localPorts = localPorts;
  }

  /**
   * Ends the connections of a pass of networks: see FairRetries. A failure is only logged: new
   * connections follow the rules already.
   */
  async end(signal: AbortSignal): Promise<void> {
    const { networkState, log } = this.#options;
    const requests = new Map(
      networkState.listEndRequests().filter(([id, count]) => this.#isInForce(id, count)),
    );
    await this.#retries.run([...requests.keys()], {
      work: async (networkId, failures) => {
        const count = requests.get(networkId) ?? 0;
        const network = this.#networks.get(networkId);
        // The flows may have changed since the start of this pass.
        if (!network || !this.#isInForce(networkId, count)) return;
        if (failures < SELECTIONS_MAX) await this.#endForbidden(network, signal);
        else await this.#endAll(network, signal);
        networkState.completeEndRequest(networkId, count);
      },
      onFirstFailure: (networkId, error) =>
        log.warn({ err: error, networkId }, "cannot end the connections that rules forbid"),
      signal,
    });
  }

  /** Whether the flows in force have the rules of the request. Otherwise they permit too much. */
  #isInForce(networkId: string, count: number): boolean {
    const network = this.#networks.get(networkId);
    return network?.endConnectionsCount === count && network.deniesNew !== true;
  }

  async #endForbidden(network: FlowNetwork, signal: AbortSignal): Promise<void> {
    const { networkId } = network;
    const { uplink, switchPort } = this.#options;
    const localPorts = this.#localPorts.filter((port) => port.networkId === networkId);
    const nameServer = uplink && nameServerAddress(uplink.firstAddress);
    const isSelected = selectForbidden(network, localPorts, nameServer);
    for (const zone of zonesOf(network))
      await switchPort.endConnections({ zone, isSelected }, signal);
  }

  async #endAll(network: FlowNetwork, signal: AbortSignal): Promise<void> {
    const { networkId } = network;
    for (const zone of zonesOf(network))
      await this.#options.switchPort.endConnections({ zone }, signal);
    this.#options.log.warn({ networkId }, "ended all connections of a network");
  }
}

/** The conntrack zones of a network. A gateway has a second one for its connections. */
function zonesOf({ conntrackZone, gatewayZone }: FlowNetwork): number[] {
  return gatewayZone === undefined ? [conntrackZone] : [conntrackZone, gatewayZone];
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
  const trusted = new Map(
    remotePorts.flatMap(({ trustedPorts, addresses }) =>
      addresses.map((address) => [address, new Set(trustedPorts?.map(keyOf))] as const),
    ),
  );
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
    if (isQuery) return false;
    // The host of a gateway decides about the connections of its clients.
    const serviceId = serviceIds.get(to);
    const isTrusted = trusted.get(from)?.has(keyOf({ serviceId, protocol, port }));
    return (
      isTrusted !== true && !decide({ from: endOf(from), to: endOf(to), protocol, port }).isAllowed
    );
  };
}

function keyOf({
  serviceId,
  protocol,
  port,
}: {
  serviceId: string | undefined;
  protocol: string;
  port: number | null;
}): string {
  return `${serviceId} ${protocol} ${port}`;
}
