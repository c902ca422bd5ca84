import type { Log } from "../../lib/log.ts";
import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import { type FlowNetwork, uplinkAddress } from "../flows/compile-flows.ts";
import type { SwitchPort, Translation } from "../ports/switch-port.ts";
import type { Uplink } from "../ports/uplink.ts";
import type { EndpointRecords } from "./endpoint-records.ts";
import { FairRetries } from "./fair-retries.ts";
import {
  listMemberAddresses,
  listPublishedAddresses,
  type StoredNetworkState,
} from "./stored-network-state.ts";

interface StaleConnectionsOptions {
  networkState: StoredNetworkState;
  records: Pick<EndpointRecords, "endpoints">;
  switchPort: Pick<SwitchPort, "endConnections" | "listTranslations">;
  /** Undefined without an uplink: then sets have no published ports. */
  uplink: Pick<Uplink, "firstAddress"> | undefined;
  log: Log;
}

/**
 * Ends the tracked connections to sets that have left their services, or to which a gateway leads
 * no more. Otherwise a client that uses the port of an old connection again would reach the address
 * of a deleted set, above all by UDP.
 *
 * The stored network state has the networks in which sets have left their services, even after a
 * restart.
 */
export class StaleConnections {
  readonly #options: StaleConnectionsOptions;
  /** The networks of the flows in force. Undefined before the first ones. */
  #networks: ReadonlyMap<string, FlowNetwork> | undefined;
  readonly #retries = new FairRetries<string>();

  constructor(options: StaleConnectionsOptions) {
    this.#options = options;
  }

  /** See FairRetries. */
  findLastingError(): unknown {
    return this.#retries.findLastingError();
  }

  /** Call it when the flows of these networks are in force. */
  update(networks: readonly FlowNetwork[]): void {
    this.#networks = new Map(networks.map((network) => [network.networkId, network]));
  }

  /**
   * Ends the connections of a pass of networks: see FairRetries. A failure is only logged, because
   * it interrupts no connection of a running set.
   */
  async end(signal: AbortSignal): Promise<void> {
    const { networkState, log } = this.#options;
    const departures = new Map(this.#listInForce());
    await this.#retries.run([...departures.keys()], {
      work: async (networkId) => {
        const count = departures.get(networkId) ?? 0;
        const network = this.#networks?.get(networkId);
        // ConntrackZones ends all connections of a network that has left the host.
        if (network) await this.#endStale(network, signal);
        networkState.completeDepartures(networkId, count);
      },
      onFirstFailure: (networkId, error) =>
        log.warn({ err: error, networkId }, "cannot end the connections of deleted sets"),
      signal,
    });
  }

  /** Those of networks whose flows are of the current state, so that they reach no departed set. */
  #listInForce(): [networkId: string, count: number][] {
    const inForce = this.#networks;
    if (!inForce) return [];
    const { networkState } = this.#options;
    const current = new Map(networkState.current?.networks.map((one) => [one.networkId, one]));
    return networkState
      .listDepartures()
      .filter(([id]) => inForce.get(id)?.services === current.get(id)?.services);
  }

  async #endStale(network: FlowNetwork, signal: AbortSignal): Promise<void> {
    const { switchPort } = this.#options;
    const zone = network.conntrackZone;
    const translations = await switchPort.listTranslations(zone, signal);
    // A set is present before flows lead to it, so each of the list is present by now, or has left.
    const isPresent = this.#createPresence(network);
    const stale = translations.filter((translation) => !isPresent(translation));
    const keys = new Set(stale.map(keyOf));
    const isStale = (one: Translation): boolean => keys.has(keyOf(one));
    if (keys.size > 0) await switchPort.endConnections({ zone, isStale }, signal);
    if (network.gatewayZone !== undefined)
      await this.#endAtDeparted({ ...network, gatewayZone: network.gatewayZone }, signal);
  }

  /**
   * The second zone of a gateway has the connections to sets on other hosts. They end when no port
   * of the gateway leads to the set. A dead host answers no more, so Linux would track an
   * established connection to its sets for five days.
   */
  async #endAtDeparted(
    { networkId, gatewayZone: zone }: { networkId: string; gatewayZone: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { networkState, switchPort } = this.#options;
    let of: unknown;
    let published: ReadonlySet<string> = new Set();
    // A set that comes meanwhile has connections before this ends.
    const isStale = ({ translatedTo }: Translation): boolean => {
      const { current } = networkState;
      if (of !== current) {
        const network = current?.networks.find((one) => one.networkId === networkId);
        published = new Set(network && listPublishedAddresses(network));
        of = current;
      }
      return !published.has(translatedTo);
    };
    await switchPort.endConnections({ zone, isStale }, signal);
  }

  /**
   * A published port of a set leads to a container of this host, which the network state may not
   * have yet. A port of a gateway leads to sets on any host.
   */
  #createPresence({ networkId, conntrackZone }: FlowNetwork): (one: Translation) => boolean {
    const { networkState, records, uplink } = this.#options;
    const current = networkState.current?.networks.find((one) => one.networkId === networkId);
    const members = new Set(listMemberAddresses(current?.services ?? []));
    const local = [...records.endpoints.values()]
      .filter((endpoint) => endpoint.networkId === networkId && endpoint.publishedPorts?.length)
      .flatMap(({ addresses }) => addresses.map(stripPrefixLength));
    const published = new Set([...local, ...(current ? listPublishedAddresses(current) : [])]);
    const own = uplink && uplinkAddress(uplink.firstAddress, conntrackZone);
    return ({ destination, translatedTo }) =>
      (destination === own ? published : members).has(translatedTo);
  }
}

function keyOf({ destination, translatedTo }: Translation): string {
  return `${destination} ${translatedTo}`;
}
