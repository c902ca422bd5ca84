import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import { coalesce } from "../../lib/async/coalesce.ts";
import {
  compileFlows,
  type FlowNetwork,
  type FlowUplink,
  type LocalPort,
  uplinkAddress,
} from "../flows/compile-flows.ts";
import { gatewayZoneKey } from "../flows/compile-gateway.ts";
import { type Datapath, renderFlow } from "../flows/flow.ts";
import { DriverError } from "../model/driver-error.ts";
import type { LinkNames } from "../model/link-names.ts";
import { type ListedPort, type SwitchPort, TUNNEL_PORT } from "../ports/switch-port.ts";
import type { Log } from "../../lib/log.ts";
import type { HostPort, Uplink } from "../ports/uplink.ts";
import { ConntrackZones } from "./conntrack-zones.ts";
import type { EndpointRecords } from "./endpoint-records.ts";
import { ForbiddenConnections } from "./forbidden-connections.ts";
import { StaleConnections } from "./stale-connections.ts";
import type { StoredNetworkState } from "./stored-network-state.ts";

interface FlowSources {
  records: EndpointRecords;
  names: LinkNames;
  switchPort: SwitchPort;
  datapath: Datapath;
  networkState: StoredNetworkState;
  /** Undefined without an uplink. */
  uplink: Omit<Uplink, "ensure" | "checkUnused"> | undefined;
  /** False if records of running containers may be missing until `completeRecords` is called. */
  hasAllRecords: boolean;
  log: Log;
}

/**
 * Compiles the flows of the records and of the network state, and replaces those of the switch.
 * Only one `apply` runs at a time. Calls that arrive meanwhile share the next run.
 *
 * While the stored network state is unreadable, it changes no flow and rejects. Without the state
 * it would remove the flows to other hosts, and would not know which rules exist.
 */
export class SwitchFlows {
  readonly #sources: FlowSources;
  readonly #apply: (signal?: AbortSignal) => Promise<void>;
  readonly #end: (signal?: AbortSignal) => Promise<void>;
  readonly #zones: ConntrackZones;
  #appliedFlowCount = 0;
  /** The names and numbers of the ports for which the flows were last applied. */
  #appliedPorts = "";
  #isOutdated = true;
  #hasAllRecords: boolean;
  #isUplinkOpen = false;
  readonly #staleConnections: StaleConnections;
  readonly #forbiddenConnections: ForbiddenConnections;
  /** The ports of the host that lead into networks, as text. Undefined before the first time. */
  #published: string | undefined;

  constructor(sources: FlowSources) {
    this.#sources = sources;
    this.#staleConnections = new StaleConnections(sources);
    this.#forbiddenConnections = new ForbiddenConnections(sources);
    this.#zones = new ConntrackZones(sources);
    this.#hasAllRecords = sources.hasAllRecords;
    this.#apply = coalesce((signal) => this.#replace(signal));
    this.#end = coalesce((signal = new AbortController().signal) => this.#endOnce(signal));
  }

  /** The conntrack zones of the last `apply`: the same object until they change. */
  get conntrackZones(): ReadonlyMap<number, number> {
    return this.#zones.current;
  }

  /** The number of flows that the last `apply` wrote. */
  get appliedFlowCount(): number {
    return this.#appliedFlowCount;
  }

  /** True if the flows of the switch may differ from those that it should have. */
  get isOutdated(): boolean {
    return this.#isOutdated;
  }

  /** The next convergence applies the flows. */
  markOutdated(): void {
    this.#isOutdated = true;
  }

  /**
   * Marks the flows outdated if these ports or their numbers differ from those of the last `apply`.
   * Then the switch has opened a port late, or another program has changed the ports.
   */
  compareWith(ports: readonly ListedPort[]): void {
    if (this.#describePorts(ports) !== this.#appliedPorts) this.#isOutdated = true;
  }

  /** Call it when a convergence has rebuilt missing records. Before that, `apply` rejects. */
  completeRecords(): void {
    this.#hasAllRecords = true;
  }

  /** Call it when the packet filter of the uplink is complete. Before that, no flow leads there. */
  openUplink(): void {
    if (!this.#isUplinkOpen) this.#isOutdated = true;
    this.#isUplinkOpen = true;
  }

  /** Resolves when flows are in force that include all changes before the call. */
  async apply(signal: AbortSignal): Promise<void> {
    await this.#apply(signal);
  }

  /**
   * Ends tracked connections of departed networks, those to deleted sets, and those that changed
   * rules forbid, for a bounded number of networks. The caller repeats it, and calls it beside
   * `apply`: it can take seconds, and starts of containers wait for flows.
   */
  async endConnections(signal: AbortSignal): Promise<void> {
    await this.#end(signal);
  }

  /** Why connections that `endConnections` must end have been open for several attempts. */
  findLastingError(): unknown {
    const parts = [this.#forbiddenConnections, this.#staleConnections, this.#zones];
    return parts.map((part) => part.findLastingError()).find((error) => error !== undefined);
  }

  async #endOnce(signal: AbortSignal): Promise<void> {
    await this.#staleConnections.end(signal);
    await this.#forbiddenConnections.end(signal);
    await this.#zones.flushReleased(signal);
  }

  async #replace(signal: AbortSignal = new AbortController().signal): Promise<void> {
    this.#isOutdated = false;
    try {
      if (this.#sources.networkState.isUnreadable)
        throw new DriverError(
          "The stored network state is unreadable. The driver changes no flow until the host's agent sends its network state.",
        );
      if (!this.#hasAllRecords)
        throw new DriverError(
          "The driver's records are missing. It changes no flow until it has compared links and ports.",
        );
      const ports = await this.#sources.switchPort.listPorts(signal);
      const networks = this.#assignZones();
      const localPorts = this.#listLocalPorts(ports);
      const flows = this.#compile(networks, localPorts, ports);
      await this.#zones.store();
      await this.#sources.switchPort.replaceFlows(flows, signal);
      this.#zones.confirm();
      this.#staleConnections.update(networks);
      this.#forbiddenConnections.update(networks, localPorts);
      await this.#publish(networks, signal);
      this.#appliedFlowCount = flows.length;
      this.#appliedPorts = this.#describePorts(ports);
    } catch (error) {
      this.#isOutdated = true;
      throw error;
    }
  }

  /** Publishes the ports of all endpoints and gateways, if they have changed. */
  async #publish(networks: readonly FlowNetwork[], signal: AbortSignal): Promise<void> {
    const { uplink } = this.#sources;
    if (!uplink || !this.#isUplinkOpen) return;
    const ports = this.#listHostPorts(uplink.firstAddress, networks);
    const text = JSON.stringify(ports);
    if (text === this.#published) return;
    await uplink.publish(ports, signal);
    this.#published = text;
    const taken = uplink.takenPorts.map(keyOf);
    if (taken.length > 0)
      this.#sources.log.warn(
        { ports: taken },
        "another program listens at published ports of sets",
      );
  }

  /** The first endpoint with a port of the host has it, and after all endpoints the gateway. */
  #listHostPorts(firstAddress: string, networks: readonly FlowNetwork[]): HostPort[] {
    const ports = new Map<string, HostPort>();
    const gateways = networks.map(({ vni, gateway }) => ({ vni, publishedPorts: gateway?.ports }));
    const endpoints = this.#sources.records.endpoints.values();
    for (const { vni, publishedPorts = [] } of [...endpoints, ...gateways]) {
      const zone = this.#zones.current.get(vni);
      if (zone === undefined) continue;
      const address = uplinkAddress(firstAddress, zone);
      for (const { protocol, hostPort } of publishedPorts) {
        const key = keyOf({ protocol, hostPort });
        if (!ports.has(key)) ports.set(key, { protocol, hostPort, address });
      }
    }
    return [...ports.values()];
  }

  #describePorts(ports: readonly ListedPort[]): string {
    return ports
      .filter(({ name }) => this.#isOwn(name))
      .map(({ name, ofPort }) => `${name}=${ofPort}`)
      .join();
  }

  #isOwn(name: string): boolean {
    const { names } = this.#sources;
    return name === TUNNEL_PORT || name === names.uplink.switchEnd || names.isHostEnd(name);
  }

  #assignZones(): FlowNetwork[] {
    const networks = [...this.#listNetworks().values()];
    const second = networks.flatMap(({ vni, gateway }) => (gateway ? gatewayZoneKey(vni) : []));
    const zones = this.#zones.assign([...networks.map(({ vni }) => vni), ...second]);
    return networks.map((network) => ({
      ...network,
      conntrackZone: zones.get(network.vni) ?? 0,
      gatewayZone: zones.get(gatewayZoneKey(network.vni)),
    }));
  }

  #compile(
    networks: readonly FlowNetwork[],
    localPorts: readonly LocalPort[],
    ports: readonly ListedPort[],
  ): string[] {
    return compileFlows({
      datapath: this.#sources.datapath,
      localPorts,
      networks,
      tunnelPort: ports.find(({ name }) => name === TUNNEL_PORT)?.ofPort,
      uplink: this.#findUplink(ports),
    }).map(renderFlow);
  }

  #findUplink(ports: readonly ListedPort[]): FlowUplink | undefined {
    const { names, uplink } = this.#sources;
    if (!this.#isUplinkOpen || !uplink) return undefined;
    const ofPort = ports.find(({ name }) => name === names.uplink.switchEnd)?.ofPort;
    return ofPort === undefined ? undefined : { ofPort, firstAddress: uplink.firstAddress };
  }

  /**
   * The networks of the network state, and those that only Docker knows. The rules of the latter
   * are unknown, so their containers open no connection until the agent has sent their network.
   */
  #listNetworks(): Map<string, Omit<FlowNetwork, "conntrackZone">> {
    const { records, networkState } = this.#sources;
    const networks = new Map<string, Omit<FlowNetwork, "conntrackZone">>();
    const vnis = new Set<number>();
    const add = (network: Omit<FlowNetwork, "conntrackZone">): void => {
      if (networks.has(network.networkId) || vnis.has(network.vni)) return;
      networks.set(network.networkId, network);
      vnis.add(network.vni);
    };
    for (const { hasUnknownRules, ...network } of networkState.current?.networks ?? [])
      add({ ...network, deniesNew: hasUnknownRules === true });
    for (const local of [...records.networks.values(), ...records.endpoints.values()])
      add({
        networkId: local.networkId,
        vni: local.vni,
        gateways: local.gateways,
        remotePorts: [],
        deniesNew: true,
      });
    return networks;
  }

  #listLocalPorts(ports: readonly ListedPort[]): LocalPort[] {
    const ofPorts = new Map(ports.map(({ name, ofPort }) => [name, ofPort]));
    return [...this.#sources.records.endpoints].flatMap(([endpointId, endpoint]) => {
      const ofPort = ofPorts.get(this.#sources.names.nameEnds(endpointId).hostEnd);
      if (ofPort === undefined) return [];
      const { networkId, mac, publishedPorts } = endpoint;
      const addresses = endpoint.addresses.map(stripPrefixLength);
      return [{ ofPort, networkId, mac, addresses, publishedPorts }];
    });
  }
}

function keyOf({ protocol, hostPort }: Pick<HostPort, "protocol" | "hostPort">): string {
  return `${protocol}/${hostPort}`;
}
