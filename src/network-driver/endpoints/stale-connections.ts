import type { Log } from "../../lib/log.ts";
import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import { type FlowNetwork, uplinkAddress } from "../flows/compile-flows.ts";
import type { SwitchPort, Translation } from "../ports/switch-port.ts";
import type { Uplink } from "../ports/uplink.ts";
import type { EndpointRecords } from "./endpoint-records.ts";
import { FairRetries } from "./fair-retries.ts";
import { listMemberAddresses, type StoredNetworkState } from "./stored-network-state.ts";

interface StaleConnectionsOptions {
  networkState: StoredNetworkState;
  records: Pick<EndpointRecords, "endpoints">;
  switchPort: Pick<SwitchPort, "endConnections" | "listTranslations">;
  /** Undefined without an uplink: then sets have no published ports. */
  uplink: Pick<Uplink, "firstAddress"> | undefined;
  log: Log;
}

/**
 * Ends the tracked connections to sets that have left their services. Otherwise a client that uses
 * the port of an old connection again would reach the address of a deleted set, above all by UDP.
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
    const addresses = new Set(stale.map(({ translatedTo }) => translatedTo));
    if (addresses.size > 0) await switchPort.endConnections({ zone, addresses }, signal);
  }

  /** A published port may also lead to a container that the network state does not have yet. */
  #createPresence({ networkId, conntrackZone }: FlowNetwork): (one: Translation) => boolean {
    const { networkState, records, uplink } = this.#options;
    const current = networkState.current?.networks.find((one) => one.networkId === networkId);
    const members = new Set(listMemberAddresses(current?.services ?? []));
    const published = uplink && uplinkAddress(uplink.firstAddress, conntrackZone);
    const local = new Set(
      [...records.endpoints.values()]
        .filter((endpoint) => endpoint.networkId === networkId)
        .flatMap(({ addresses }) => addresses.map(stripPrefixLength)),
    );
    return ({ destination, translatedTo }) =>
      members.has(translatedTo) || (destination === published && local.has(translatedTo));
  }
}
