import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { createSetEngine } from "../../src/agent/engine/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import type { Attachment } from "../../src/contracts/agent-protocol/attachment.ts";
import type {
  HostNetwork,
  NetworkState,
} from "../../src/contracts/network-driver/network-state.ts";
import { createNetworkDriverClient } from "../../src/host-adapters/network-driver-client/network-driver-client.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeEnginePorts } from "../../src/main/compose/set-engine.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { type DriverHost, startDriverHost } from "../support/network/driver-host.ts";
import { networkBasics } from "../support/network/host-network.ts";
import { addNamespace } from "../support/network/machine-traces.ts";
import { startUnboundUnit } from "../support/network/unbound-unit.ts";

const run = promisify(execFile);
const { signal } = new AbortController();

/** The network of all sets that are not on Docker's bridge. */
export const benchNetwork = { networkId: newId("net"), vni: 4_097 } as const;
const gateway = "10.64.255.254";

/** A host with Docker, Open vSwitch, unbound, network driver and the agent's set engine. */
export interface NetworkHost {
  driverHost: DriverHost;
  namespace: string;
  tunnelAddress: string;
  engine: SetPort;
  /** Starts sets on a bridge that a user has created in Docker. */
  userDefinedBridgeEngine: SetPort;
  /** The label of its containers. */
  hostId: string;
}

/** A set that runs, and how programs of this machine enter its network namespace. */
export interface RunningSet {
  host: NetworkHost;
  setId: string;
  address: string;
  /** The arguments of `nsenter`. */
  enter: string[];
  isInNetwork: boolean;
}

/** Two hosts, each in a network namespace, with a link between them. */
export interface NetworkHosts {
  first: NetworkHost;
  second: NetworkHost;
  close(): Promise<void>;
}

export async function startNetworkHosts(): Promise<NetworkHosts> {
  const closing: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (const closeOne of closing.toReversed()) await closeOne();
  };
  try {
    const namespaces = ["first", "second"].map((name) => `berth-${process.pid}-${name}`);
    for (const namespace of namespaces) {
      await addNamespace(namespace);
      closing.push(() => run("ip", ["netns", "delete", namespace]));
    }
    await linkNamespaces(namespaces, "uplink");
    const hosts: NetworkHost[] = [];
    for (const [place, namespace] of namespaces.entries()) {
      await run("ip", ["-n", namespace, "link", "set", "lo", "up"]);
      const unit = await startUnboundUnit(namespace);
      closing.push(() => unit.close());
      const host = await startNetworkHost(namespace, `172.31.0.${place + 1}`, unit.folder);
      hosts.push(host);
      closing.push(async () => {
        await removeHost(host.driverHost.docker, host.hostId);
        await host.driverHost.close();
      });
    }
    const [first, second] = hosts;
    if (!first || !second) throw new Error("there are two hosts");
    return { first, second, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Adds a link whose ends have this name in both namespaces. */
export async function linkNamespaces(namespaces: readonly string[], name: string): Promise<void> {
  const [one = "", two = ""] = namespaces;
  const peer = ["peer", "name", name, "netns", two];
  await run("ip", ["-n", one, "link", "add", name, "type", "veth", ...peer]);
}

async function startNetworkHost(
  namespace: string,
  tunnelAddress: string,
  dnsFolder: string,
): Promise<NetworkHost> {
  const driverHost = await startDriverHost(undefined, {
    namespace,
    underlay: { tunnelAddress, uplink: "uplink" },
    outboundSubnet: "198.19.0.0/16",
    settings: {
      BERTH_NETWORK_DNS: "true",
      BERTH_NETWORK_DNS_DIR: dnsFolder,
      // Nothing answers there, because the benchmark needs no other names.
      BERTH_NETWORK_DNS_RESOLVERS: "127.0.0.5",
    },
  });
  const hostId = newId("host");
  const driver = createNetworkDriverClient(driverHost.controlSocket);
  const ports = composeEnginePorts({
    docker: driverHost.docker,
    hostId,
    log: silentLog,
    networkDriver: { driver, plugin: driverHost.plugin },
  });
  const userDefinedBridge = "bench-bridge";
  await driverHost.docker.createNetwork({ Name: userDefinedBridge, Driver: "bridge" });
  const userDefinedBridgeEngine = createSetEngine({
    ...ports,
    network: { ...ports.network, prepare: async () => [{ dockerNetwork: userDefinedBridge }] },
  });
  const engine = createSetEngine(ports);
  return { driverHost, namespace, tunnelAddress, engine, userDefinedBridgeEngine, hostId };
}

let nextAddress = 2;

/** The attachment of the next set of the network. */
function nextAttachment(): Attachment {
  const number = nextAddress++;
  const bytes = [10, 64, Math.floor(number / 256), number % 256];
  const hex = bytes.map((byte) => byte.toString(16).padStart(2, "0"));
  return {
    ...benchNetwork,
    interface: "eth0",
    mac: `0a:00:${hex.join(":")}`,
    addresses: [`${bytes.join(".")}/16`],
    gateways: [gateway],
  };
}

/** A set that is not started yet, in the network or on Docker's bridge. */
export function nextSet({ isInNetwork }: { isInNetwork: boolean }): LocalSetSpec {
  return { ...localSet(), ...(isInNetwork ? { attachments: [nextAttachment()] } : {}) };
}

/** Starts a set as the agent does it. */
export async function startSet(
  { engine }: Pick<NetworkHost, "engine">,
  set: LocalSetSpec,
): Promise<void> {
  const failures = await engine.prepare(set, signal);
  if (failures.length > 0) throw new Error(JSON.stringify(failures));
  await engine.start(set, ["app"], signal);
}

/** Removes all sets that this program has started. */
export async function emptyHost({ engine }: NetworkHost): Promise<void> {
  for (const { setId } of await engine.observe(signal)) await engine.remove(setId, signal);
}

export async function removeSet({ engine }: NetworkHost, setId: string): Promise<void> {
  await engine.remove(setId, signal);
}

export async function runSet(
  host: NetworkHost,
  options: { isInNetwork: boolean },
): Promise<RunningSet> {
  const set = nextSet(options);
  await startSet(host, set);
  const { State, NetworkSettings } = await host.driverHost.docker
    .getContainer(`berth-${set.setId}-infra`)
    .inspect();
  const [attachment] = set.attachments ?? [];
  const address =
    attachment?.addresses[0]?.split("/")[0] ?? NetworkSettings.Networks["bridge"]?.IPAddress ?? "";
  const enter = [`--net=/proc/${State.Pid}/ns/net`];
  return { host, setId: set.setId, address, enter, ...options };
}

export interface BenchService {
  address: string;
  members: readonly RunningSet[];
  /** Sets that are not ready. */
  unready?: ReadonlySet<string>;
}

let version = 1;

/**
 * Sends the network of these sets to the drivers of both hosts, in place of their agents. Resolves
 * when its flows are in force.
 */
export async function applyNetwork(
  { first, second }: Pick<NetworkHosts, "first" | "second">,
  sets: readonly RunningSet[],
  service?: BenchService,
): Promise<void> {
  version += 1;
  for (const host of [first, second]) {
    const remote = sets.filter((set) => set.isInNetwork && set.host !== host);
    const network: HostNetwork = {
      ...networkBasics,
      ...benchNetwork,
      gateways: [gateway],
      remotePorts: remote.map(({ address, host: { tunnelAddress } }) => ({
        mac: macOf(address),
        addresses: [address],
        tunnelAddress,
      })),
      services: service ? [toHostService(service)] : [],
    };
    const { tunnelAddress } = host;
    const state: NetworkState = { source: "bench", version, tunnelAddress, networks: [network] };
    const { status, body } = await host.driverHost.control("PUT", "/v1/network-state", state);
    const { isApplied } = body as { isApplied?: boolean };
    if (status !== 200 || isApplied !== true)
      throw new Error(`the driver answered ${status}: ${JSON.stringify(body)}`);
  }
}

const serviceId = newId("svc");

function toHostService(service: BenchService): HostNetwork["services"][number] {
  return {
    serviceId,
    name: "bench",
    addresses: [service.address],
    members: service.members.map(({ setId, address }) => ({
      setId,
      addresses: [address],
      isEndpoint: service.unready?.has(setId) !== true,
    })),
    ports: [],
  };
}

function macOf(address: string): string {
  const hex = address.split(".").map((byte) => Number(byte).toString(16).padStart(2, "0"));
  return `0a:00:${hex.join(":")}`;
}
