import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import { z } from "zod";
import type { DockerNetwork, DriverRecordsContent, Endpoint } from "../model/driver-records.ts";
import {
  DOCKER_NETWORKS_MAX,
  dockerNetworkSchema,
  ENDPOINTS_MAX,
  endpointSchema,
} from "../model/driver-records.ts";
import { DriverError } from "../model/driver-error.ts";
import { findSharedHostPort } from "../../contracts/network-driver/published-ports.ts";
import type { LinkNames } from "../model/link-names.ts";
import type { StateStore } from "../ports/state-store.ts";

/**
 * The driver's records of networks and endpoints, in memory and in the store. A change resolves
 * once it is durable. If the store fails, an addition is undone and rejects. A removal or an
 * adoption still takes effect and resolves, and `saveChanges` stores it later. So on a full disk
 * containers can stop, and running ones retain their flows.
 */
export class EndpointRecords {
  readonly #store: StateStore<DriverRecordsContent>;
  readonly #networks: Map<string, DockerNetwork>;
  readonly #endpoints: Map<string, Endpoint>;
  #zones: ReadonlyMap<number, number>;
  readonly #names: LinkNames;
  readonly #nowMs: () => number;
  /** When this process first had the record, or last joined the endpoint. Monotonic. */
  readonly #knownSinceMs = new Map<string, number>();
  /** The number of removals and adoptions so far. */
  #changes = 0;
  #savedChanges = 0;

  constructor(
    store: StateStore<DriverRecordsContent>,
    content: Omit<DriverRecordsContent, "version">,
    { names, nowMs }: { names: LinkNames; nowMs: () => number },
  ) {
    this.#names = names;
    this.#store = store;
    this.#networks = new Map(Object.entries(content.networks));
    this.#endpoints = new Map(Object.entries(content.endpoints));
    this.#zones = new Map(Object.entries(content.zones).map(([vni, zone]) => [Number(vni), zone]));
    this.#nowMs = nowMs;
    for (const endpointId of this.#endpoints.keys()) this.#knownSinceMs.set(endpointId, nowMs());
  }

  get networks(): ReadonlyMap<string, DockerNetwork> {
    return this.#networks;
  }

  get endpoints(): ReadonlyMap<string, Endpoint> {
    return this.#endpoints;
  }

  /** The conntrack zones by VNI: see ConntrackZones. */
  get zones(): ReadonlyMap<number, number> {
    return this.#zones;
  }

  /** Replaces the zones. If the store fails, they still take effect, like a removal. */
  async putZones(zones: ReadonlyMap<number, number>): Promise<void> {
    this.#zones = zones;
    await this.#saveOrRepeat();
  }

  /** Restarts the age of an endpoint, because it has joined its container. */
  renew(endpointId: string): void {
    if (this.#endpoints.has(endpointId)) this.#knownSinceMs.set(endpointId, this.#nowMs());
  }

  /** The time since this process first had the record, or since the last join of the endpoint. */
  ageMs(endpointId: string): number {
    return this.#nowMs() - (this.#knownSinceMs.get(endpointId) ?? this.#nowMs());
  }

  async putNetwork(dockerNetworkId: string, network: DockerNetwork): Promise<void> {
    const previous = this.#networks.get(dockerNetworkId);
    this.#addNetwork(dockerNetworkId, network);
    await this.#saveOrUndo(() => {
      if (previous) this.#networks.set(dockerNetworkId, previous);
      else this.#networks.delete(dockerNetworkId);
    });
  }

  async removeNetwork(dockerNetworkId: string): Promise<void> {
    if (this.#networks.delete(dockerNetworkId)) await this.#saveOrRepeat();
  }

  /** Adds a network of which a running container has an interface. */
  async adoptNetwork(dockerNetworkId: string, network: DockerNetwork): Promise<void> {
    this.#addNetwork(dockerNetworkId, network);
    await this.#saveOrRepeat();
  }

  async putEndpoint(endpointId: string, endpoint: Endpoint): Promise<void> {
    const previous = this.#endpoints.get(endpointId);
    this.#addEndpoint(endpointId, endpoint);
    await this.#saveOrUndo(() => {
      if (previous) this.#endpoints.set(endpointId, previous);
      else this.#forget(endpointId);
    });
  }

  async removeEndpoint(endpointId: string): Promise<void> {
    if (!this.#endpoints.has(endpointId)) return;
    this.#forget(endpointId);
    await this.#saveOrRepeat();
  }

  /** Adds the endpoint of an interface that a running container has. */
  async adoptEndpoint(endpointId: string, endpoint: Endpoint): Promise<void> {
    this.#addEndpoint(endpointId, endpoint);
    await this.#saveOrRepeat();
  }

  /** Stores the removals and adoptions that the store has not accepted yet. */
  async saveChanges(): Promise<void> {
    if (this.#savedChanges < this.#changes) await this.#save();
  }

  /**
   * Lists other endpoints with an address, the MAC address, the interface names or a host port of
   * this one.
   */
  findConflicts(endpointId: string, wanted: Endpoint): string[] {
    const { hostEnd } = this.#names.nameEnds(endpointId);
    const conflicts = ([otherId, other]: [string, Endpoint]): boolean =>
      this.#names.nameEnds(otherId).hostEnd === hostEnd ||
      haveSameAddress(wanted, other) ||
      findSharedHostPort(wanted.publishedPorts, other.publishedPorts) !== undefined;
    return [...this.#endpoints]
      .filter((entry) => entry[0] !== endpointId && conflicts(entry))
      .map(([otherId]) => otherId);
  }

  #addNetwork(dockerNetworkId: string, network: DockerNetwork): void {
    if (!this.#networks.has(dockerNetworkId) && this.#networks.size >= DOCKER_NETWORKS_MAX)
      throw new DriverError(
        `This host has ${DOCKER_NETWORKS_MAX} networks of the driver, which is the maximum. Remove unused ones.`,
      );
    this.#networks.set(dockerNetworkId, parseRecord(dockerNetworkSchema, network));
  }

  #addEndpoint(endpointId: string, endpoint: Endpoint): void {
    if (!this.#endpoints.has(endpointId) && this.#endpoints.size >= ENDPOINTS_MAX)
      throw new DriverError(
        `This host has ${ENDPOINTS_MAX} endpoints of the driver, which is the maximum. Remove unused containers.`,
      );
    this.#endpoints.set(endpointId, parseRecord(endpointSchema, endpoint));
    this.#knownSinceMs.set(endpointId, this.#nowMs());
  }

  #forget(endpointId: string): void {
    this.#endpoints.delete(endpointId);
    this.#knownSinceMs.delete(endpointId);
  }

  async #saveOrUndo(undo: () => void): Promise<void> {
    try {
      await this.#save();
    } catch (error) {
      undo();
      throw error;
    }
  }

  async #saveOrRepeat(): Promise<void> {
    this.#changes += 1;
    await this.#save().catch(() => undefined); // saveChanges repeats it and reports its error
  }

  async #save(): Promise<void> {
    const changes = this.#changes;
    await this.#store.save(() => ({
      version: 1,
      networks: Object.fromEntries(this.#networks),
      endpoints: Object.fromEntries(this.#endpoints),
      zones: Object.fromEntries(this.#zones),
    }));
    this.#savedChanges = Math.max(this.#savedChanges, changes);
  }
}

/** Whether two endpoints have an address or the MAC address in common, in the same network. */
export function haveSameAddress(one: Endpoint, other: Endpoint): boolean {
  if (one.vni !== other.vni) return false;
  const addresses = one.addresses.map(stripPrefixLength);
  return (
    one.mac === other.mac ||
    other.addresses.some((address) => addresses.includes(stripPrefixLength(address)))
  );
}

/** Rejects a record that a later start could not load. */
function parseRecord<T>(schema: z.ZodType<T>, record: T): T {
  const { data, error } = schema.safeParse(record);
  if (error) throw new DriverError(`The record is invalid: ${z.prettifyError(error)}`);
  return data;
}
