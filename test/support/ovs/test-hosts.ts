import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { createOvsSwitch } from "../../../src/host-adapters/ovs/ovs-switch.ts";
import { deriveMac } from "../../../src/contracts/common/mac-address.ts";
import type { HostRule } from "../../../src/contracts/network-driver/host-rule.ts";
import { assignConntrackZones } from "../../../src/network-driver/flows/assign-conntrack-zones.ts";
import {
  compileFlows,
  type FlowUplink,
  type RemotePort,
} from "../../../src/network-driver/flows/compile-flows.ts";
import {
  type FlowGateway,
  gatewayZoneKey,
} from "../../../src/network-driver/flows/compile-gateway.ts";
import type { FlowService } from "../../../src/network-driver/flows/compile-services.ts";
import type { PublishedPort } from "../../../src/contracts/network-driver/published-ports.ts";
import { type Datapath, type Flow, renderFlow } from "../../../src/network-driver/flows/flow.ts";
import {
  type ListedPort,
  type SwitchPort,
  TUNNEL_PORT,
} from "../../../src/network-driver/ports/switch-port.ts";
import { addNamespace } from "../network/machine-traces.ts";
import { type FakeSet, startFakeSet } from "./fake-set.ts";
import { type PrivateOvs, startPrivateOvs } from "./private-ovs.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
const uplink = "uplink";
/** The kernel's datapath needs a kernel with the module openvswitch. */
export const datapath = process.env["BERTH_TEST_DATAPATH"] === "system" ? "system" : "netdev";
/** The end of a host's uplink in its bridge, if a test adds that port. */
export const uplinkPort = "bu-switch";
export const uplinkFirstAddress = "198.19.0.0";
export const gateway = "10.64.255.254";
/** The tunnel adds 50 bytes to each packet. */
const setMtu = 1_450;

export interface TestNetwork {
  networkId: string;
  vni: number;
}

export interface TestSet extends FakeSet {
  host: TestHost;
  network: TestNetwork;
  mac: string;
  ipv4: string;
  ipv6: string;
  /** A test may change them before `apply`. */
  publishedPorts: readonly PublishedPort[];
}

export interface TestHost {
  name: string;
  namespace: string;
  tunnelAddress: string;
  ovs: PrivateOvs;
  switchPort: SwitchPort;
}

/**
 * Two hosts on one machine. Each is a network namespace with an Open vSwitch of its own, and a link
 * joins them. Its fake sets are network namespaces, too.
 */
export class TestHosts {
  readonly first: TestHost;
  readonly second: TestHost;
  readonly sets: TestSet[] = [];
  /** The services of each network, by VNI. They apply with the next `apply`. */
  readonly services = new Map<number, readonly FlowService[]>();
  /** The rules of each network, by VNI. They apply with the next `apply`. */
  readonly rules = new Map<number, readonly HostRule[]>();
  /** The gateways of each network, by VNI. They apply with the next `apply`. */
  readonly gateways = new Map<number, readonly (FlowGateway & { host: TestHost })[]>();

  private constructor(first: TestHost, second: TestHost) {
    this.first = first;
    this.second = second;
  }

  static async start(): Promise<TestHosts> {
    const names = ["a", "b"].map((letter) => `berth-${process.pid}-${letter}`);
    const [first = "", second = ""] = names;
    for (const name of names) await addNamespace(name);
    const peer = ["peer", "name", uplink, "netns", second];
    await run("ip", ["-n", first, "link", "add", uplink, "type", "veth", ...peer]);
    const hosts = names.map((name, index) => startHost(name, `172.31.0.${index + 1}`));
    const [one, two] = await Promise.all(hosts);
    if (!one || !two) throw new Error("there are two hosts");
    return new TestHosts(one, two);
  }

  /** Adds a set with the addresses 10.64.0.N and fd00::N, and its port. Flows follow by `apply`. */
  async addSet(host: TestHost, network: TestNetwork, index: number): Promise<TestSet> {
    const ipv4 = `10.64.0.${index}`;
    const ipv6 = `fd00::${index.toString(16)}`;
    const mac = `0a:00:0a:40:00:${index.toString(16).padStart(2, "0")}`;
    const hostEnd = `n${network.vni}i${index}`;
    const fake = await startFakeSet({
      name: `${network.networkId}-${index}`,
      namespace: `${host.namespace}-${hostEnd}`,
      hostNamespace: host.namespace,
      hostEnd,
      mac,
      addresses: [`${ipv4}/16`, `${ipv6}/64`],
      mtu: setMtu,
      disablesChecksumOffload: datapath === "netdev",
    });
    const set: TestSet = { ...fake, host, network, mac, ipv4, ipv6, publishedPorts: [] };
    this.sets.push(set);
    await host.switchPort.addPort(
      { name: hostEnd, externalIds: { "berth-set": fake.name } },
      signal,
    );
    return set;
  }

  /** Compiles and replaces the flows of all hosts. */
  async apply(options: { datapath?: Datapath; hosts?: readonly TestHost[] } = {}): Promise<void> {
    for (const host of options.hosts ?? [this.first, this.second])
      await host.switchPort.replaceFlows(
        (await this.compile(host, [], options)).map(renderFlow),
        signal,
      );
  }

  /** Compiles the flows of a host, with more remote ports in the network of the first set. */
  async compile(
    host: TestHost,
    moreRemotePorts: readonly RemotePort[] = [],
    { datapath: flowsFor = datapath }: { datapath?: Datapath } = {},
  ): Promise<Flow[]> {
    const ports = await host.switchPort.listPorts(signal);
    const portNumber = (id: string) =>
      ports.find(({ externalIds }) => externalIds["berth-set"] === id)?.ofPort;
    const networks = new Map(this.sets.map(({ network }) => [network.vni, network]));
    const vnis = [...networks.keys()];
    const zones = assignConntrackZones([...vnis, ...vnis.map(gatewayZoneKey)]);
    return compileFlows({
      datapath: flowsFor,
      tunnelPort: ports.find(({ name }) => name === TUNNEL_PORT)?.ofPort,
      ...findUplink(ports),
      localPorts: this.sets.flatMap((set) => {
        const ofPort = set.host === host ? portNumber(set.name) : undefined;
        const { networkId } = set.network;
        if (ofPort === undefined) return [];
        const { mac, publishedPorts } = set;
        return [{ ofPort, networkId, mac, addresses: [set.ipv4, set.ipv6], publishedPorts }];
      }),
      networks: [...networks.values()].map(({ networkId, vni }) => ({
        networkId,
        vni,
        conntrackZone: zones.get(vni) ?? 0,
        gatewayZone: zones.get(gatewayZoneKey(vni)),
        gateway: this.gateways.get(vni)?.find((each) => each.host === host),
        gateways: [gateway, "fd00::ffff"],
        services: this.services.get(vni) ?? [],
        rules: this.rules.get(vni) ?? [],
        remotePorts: this.sets
          .filter((set) => set.host !== host && set.network.vni === vni)
          .map(({ mac, ipv4, ipv6, host: { tunnelAddress } }): RemotePort => ({
            mac,
            addresses: [ipv4, ipv6],
            tunnelAddress,
          }))
          .concat(this.#listRemoteGateways(host, vni))
          .concat(moreRemotePorts.filter(() => vni === this.sets[0]?.network.vni)),
      })),
    });
  }

  #listRemoteGateways(host: TestHost, vni: number): RemotePort[] {
    const others = (this.gateways.get(vni) ?? []).filter((each) => each.host !== host);
    return others.map(({ address, ports, host: { tunnelAddress } }) => ({
      mac: deriveMac([address]) ?? "",
      addresses: [address],
      tunnelAddress,
      trustedPorts: ports,
    }));
  }

  async close(): Promise<void> {
    for (const set of this.sets) await set.close();
    for (const host of [this.first, this.second]) {
      await host.ovs.close();
      await run("ip", ["netns", "delete", host.namespace]);
    }
  }
}

function findUplink(ports: readonly ListedPort[]): { uplink?: FlowUplink } {
  const ofPort = ports.find(({ name }) => name === uplinkPort)?.ofPort;
  return ofPort === undefined ? {} : { uplink: { ofPort, firstAddress: uplinkFirstAddress } };
}

async function startHost(namespace: string, tunnelAddress: string): Promise<TestHost> {
  const ovs = await startPrivateOvs({ namespace });
  const { runFolder } = ovs;
  const ip = (...args: string[]) => run("ip", ["-n", namespace, ...args]);
  let underlay = uplink;
  if (datapath === "netdev") {
    // This datapath finds routes of the tunnel only among its own bridges.
    underlay = "br-tunnel";
    const database = `--db=unix:${runFolder}/db.sock`;
    const bridge = ["add-br", underlay, "--", "set", "Bridge", underlay, "datapath_type=netdev"];
    await ovs.ovs("ovs-vsctl", database, ...bridge, "--", "add-port", underlay, uplink);
  }
  await ip("addr", "add", `${tunnelAddress}/24`, "dev", underlay);
  for (const name of new Set(["lo", uplink, underlay])) await ip("link", "set", name, "up");
  const switchPort = createOvsSwitch({
    bridge: "berth0",
    datapath,
    runFolder,
    tunnel: { udpPort: 4789 },
  });
  await switchPort.ensureBridge(signal);
  return { name: namespace, namespace, tunnelAddress, ovs, switchPort };
}
