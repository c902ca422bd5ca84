import {
  type HostNetwork,
  type LoadedNetworkState,
  NETWORKS_PER_HOST_MAX,
  type NetworkState,
} from "../../contracts/network-driver/network-state.ts";
import type { LoadedState, StateStore } from "../ports/state-store.ts";

/** The last network state of the agent, in memory and in the store. */
export class StoredNetworkState {
  readonly #store: StateStore<LoadedNetworkState>;
  #current: LoadedNetworkState | undefined;
  #isUnsaved = false;
  #isUnreadable: boolean;
  /** By network: the `endConnectionsCount` for which the driver has not ended connections yet. */
  readonly #endRequests = new Map<string, number>();
  /** The networks in which sets have left their services, with the count of the last departure. */
  readonly #departures = new Map<string, number>();
  #departureCount = 0;

  constructor(store: StateStore<LoadedNetworkState>, loaded: LoadedState<LoadedNetworkState>) {
    this.#store = store;
    this.#current = "value" in loaded ? loaded.value : undefined;
    this.#isUnreadable = loaded.kind === "invalid";
    for (const networkId of this.#current?.departures ?? []) this.#noteDeparture(networkId);
    const requests = new Set(this.#current?.endRequests);
    for (const { networkId, endConnectionsCount } of this.#current?.networks ?? [])
      if (requests.has(networkId)) this.#endRequests.set(networkId, endConnectionsCount);
  }

  /** Undefined before the first state. */
  get current(): LoadedNetworkState | undefined {
    return this.#current;
  }

  /** True if the stored state was invalid, and the agent has sent none since. */
  get isUnreadable(): boolean {
    return this.#isUnreadable;
  }

  /** The networks whose rules this release cannot enforce. */
  listUnenforced(): string[] {
    const networks = this.#current?.networks ?? [];
    return networks
      .filter(({ hasUnknownRules }) => hasUnknownRules)
      .map(({ networkId }) => networkId);
  }

  /**
   * Makes the state the current one, and returns undefined. If the current one has a higher version
   * of the same source, changes nothing and returns that version. Does not store the state: see
   * `save`. So a full disk delays no flows: a moved set is reachable, and no old host is trusted.
   */
  accept(state: NetworkState): number | undefined {
    const current = this.#current;
    if (current?.source === state.source && current.version > state.version) return current.version;
    this.#requestEnds(state);
    this.#noteDepartures(state);
    this.#current = state;
    this.#isUnreadable = false;
    this.#isUnsaved = true;
    return undefined;
  }

  /** The networks whose forbidden connections the driver must end, with the request's count. */
  listEndRequests(): [networkId: string, count: number][] {
    return [...this.#endRequests];
  }

  /** Call it when the forbidden connections are ended. A later request remains. */
  completeEndRequest(networkId: string, count: number): void {
    if (this.#endRequests.get(networkId) !== count) return;
    this.#endRequests.delete(networkId);
    this.#isUnsaved = true;
  }

  /**
   * The networks in which sets have left their services, until `completeDepartures`, with the count
   * of the last departure. A set also departs if this host as a gateway leads to it no more. After
   * a restart it lists those of the last state again. Beyond NETWORKS_PER_HOST_MAX, it forgets the
   * oldest.
   */
  listDepartures(): [networkId: string, count: number][] {
    return [...this.#departures];
  }

  /**
   * Call it when the connections to the departed sets are ended. A later departure remains, behind
   * those of other networks. It is stored with the next state: to look again after a restart does
   * no harm.
   */
  completeDepartures(networkId: string, count: number): void {
    const last = this.#departures.get(networkId);
    this.#departures.delete(networkId);
    if (last !== undefined && last !== count) this.#departures.set(networkId, last);
  }

  /**
   * A network that has one already stays in its place. Otherwise networks with frequent departures
   * would wait behind all others indefinitely.
   */
  #noteDeparture(networkId: string): void {
    this.#departureCount += 1;
    this.#departures.set(networkId, this.#departureCount);
  }

  /** Without an earlier state, sets may have left their services in any network. */
  #noteDepartures({ networks }: NetworkState): void {
    const present = new Map(networks.map((network) => [network.networkId, network]));
    if (!this.#current) for (const networkId of present.keys()) this.#noteDeparture(networkId);
    for (const before of this.#current?.networks ?? []) {
      const now = present.get(before.networkId);
      const addresses = new Set(now && listMemberAddresses(now.services));
      const reached = before.services.filter((service) => service.addresses.length > 0);
      const published = new Set(now && listPublishedAddresses(now));
      if (
        listMemberAddresses(reached).some((address) => !addresses.has(address)) ||
        listPublishedAddresses(before).some((address) => !published.has(address))
      )
        this.#noteDeparture(before.networkId);
    }
    const surplus = Math.max(0, this.#departures.size - NETWORKS_PER_HOST_MAX);
    for (const networkId of [...this.#departures.keys()].slice(0, surplus))
      this.#departures.delete(networkId);
  }

  /** A network that is new on the host has no connections that its rules forbid. */
  #requestEnds({ networks }: NetworkState): void {
    const before = new Map(
      this.#current?.networks.map((one) => [one.networkId, one.endConnectionsCount]),
    );
    const present = new Set(networks.map(({ networkId }) => networkId));
    for (const networkId of this.#endRequests.keys())
      if (!present.has(networkId)) this.#endRequests.delete(networkId);
    for (const { networkId, endConnectionsCount } of networks) {
      const previous = before.get(networkId);
      if (previous !== undefined && previous !== endConnectionsCount)
        this.#endRequests.set(networkId, endConnectionsCount);
    }
  }

  /** Stores the current state unless it is stored. Resolves once it is durable. */
  async save(): Promise<void> {
    const state = this.#current;
    if (!this.#isUnsaved || !state) return;
    this.#isUnsaved = false;
    try {
      await this.#store.save(() => ({
        ...(this.#current ?? state),
        endRequests: [...this.#endRequests.keys()],
        departures: [...this.#departures.keys()],
      }));
    } catch (error) {
      this.#isUnsaved = true;
      throw error;
    }
  }
}

/** The addresses of the sets of these services. */
export function listMemberAddresses(services: HostNetwork["services"]): string[] {
  return services.flatMap(({ members }) => members.flatMap(({ addresses }) => addresses));
}

/** The addresses of the sets to which ports of this host as a gateway lead. */
export function listPublishedAddresses({
  gateway,
  services,
}: Pick<HostNetwork, "gateway" | "services">): string[] {
  const published = new Set(gateway?.ports.map(({ serviceId }) => serviceId));
  return listMemberAddresses(services.filter(({ serviceId }) => published.has(serviceId)));
}
