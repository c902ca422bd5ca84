import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { NetworkState } from "../../../src/contracts/network-driver/network-state.ts";
import { storedNetworkStateSchema } from "../../../src/contracts/network-driver/network-state.ts";
import { createVethLinks } from "../../../src/host-adapters/links/veth-links.ts";
import { createOvsSwitch } from "../../../src/host-adapters/ovs/ovs-switch.ts";
import { openJsonState } from "../../../src/host-adapters/state-file/json-state.ts";
import { newId } from "../../../src/lib/ids.ts";
import { silentLog } from "../../../src/lib/log.ts";
import {
  driverRecordsSchema,
  salvageRecords,
} from "../../../src/network-driver/model/driver-records.ts";
import { createLinkNames } from "../../../src/network-driver/model/link-names.ts";
import {
  createNetworkDriver,
  type NetworkDriver,
} from "../../../src/network-driver/network-driver.ts";
import type { LinkPort } from "../../../src/network-driver/ports/link-port.ts";
import type { StateStore } from "../../../src/network-driver/ports/state-store.ts";
import type { Uplink } from "../../../src/network-driver/ports/uplink.ts";
import type { SwitchPort } from "../../../src/network-driver/ports/switch-port.ts";
import { startPrivateOvs } from "../ovs/private-ovs.ts";
import { networkBasics } from "./host-network.ts";
import { addNamespace, noteTraces } from "./machine-traces.ts";

const run = promisify(execFile);

/** Failures and pauses on demand, in front of the real links, switch and files. */
export interface SwitchFaults {
  isDiskFull: boolean;
  /** Whether drivers that start now have an uplink. */
  hasUplink: boolean;
  /** Runs before the switch adds the port. */
  beforeAddPort: (name: string) => Promise<void>;
  /** Runs before the checksums of a container's end become complete. */
  beforeDisableChecksumOffload: () => Promise<void>;
  /** The packet filter of the machine stays as it is. */
  ensureGuard: (tunnelAddress: string | null) => Promise<void>;
  /** The routing of the machine stays as it is. */
  ensureUplink: (interfaceName: string) => Promise<void>;
  publish: Uplink["publish"];
  takenPorts: Uplink["takenPorts"];
  checkUnused: Uplink["checkUnused"];
  /** Whether another program has changed the packet filter. */
  isFilterChanged: boolean;
  /** Runs before the driver lists all links. */
  beforeListLinks: () => Promise<void>;
}

/**
 * The driver on this machine's links and an Open vSwitch of its own. The test is Docker: a
 * container is a network namespace.
 */
export async function startSwitchDriver({ hasUplink = false } = {}) {
  const suffix = randomBytes(3).toString("hex");
  const bridge = `b${suffix}`;
  const linkPrefix = `t${suffix.slice(0, 2)}`;
  const namespace = `berth-driver-${suffix}`;
  const names = createLinkNames(linkPrefix);
  const dockerNetwork = randomBytes(32).toString("hex");
  const networkId = newId("net");
  const tunnelUdpPort = 20_000 + (Number.parseInt(suffix, 16) % 10_000);
  const faults: SwitchFaults = {
    isDiskFull: false,
    isFilterChanged: false,
    hasUplink,
    beforeAddPort: async () => undefined,
    beforeDisableChecksumOffload: async () => undefined,
    beforeListLinks: async () => undefined,
    ensureGuard: async () => undefined,
    ensureUplink: async () => undefined,
    publish: async () => undefined,
    takenPorts: [],
    checkUnused: async () => undefined,
  };
  noteTraces({ bridge }, { linkPrefix });
  await addNamespace(namespace);
  const folder = await mkdtemp(join(tmpdir(), "berth-switch-driver-"));
  const ovs = await startPrivateOvs();
  const realLinks = createVethLinks({ disablesChecksumOffload: true });
  const links: LinkPort = {
    ensure: (link, signal) => realLinks.ensure(link, signal),
    disableChecksumOffload: async (containerEnd, signal) => {
      await faults.beforeDisableChecksumOffload();
      await realLinks.disableChecksumOffload(containerEnd, signal);
    },
    remove: (hostEnd, signal) => realLinks.remove(hostEnd, signal),
    list: async (signal) => {
      await faults.beforeListLinks();
      return realLinks.list(signal);
    },
  };
  const switchPort: SwitchPort = createOvsSwitch({
    bridge,
    datapath: "netdev",
    runFolder: ovs.runFolder,
    tunnel: { udpPort: tunnelUdpPort },
  });
  const addPort = switchPort.addPort.bind(switchPort);
  switchPort.addPort = async (port, signal) => {
    await faults.beforeAddPort(port.name);
    await addPort(port, signal);
  };
  const onDisk = <T>(store: StateStore<T>): StateStore<T> => ({
    load: () => store.load(),
    save: async (read) => {
      if (faults.isDiskFull) throw new Error("ENOSPC: no space left on device");
      await store.save(read);
    },
  });
  const clock = { nowMs: 0 };
  const files = {
    records: join(folder, "records.json"),
    networkState: join(folder, "network-state.json"),
  };
  const uplink: Uplink = {
    firstAddress: "198.19.0.0",
    ensure: ({ interfaceName }) => faults.ensureUplink(interfaceName),
    publish: (ports, publishSignal) => faults.publish(ports, publishSignal),
    checkUnused: (ports) => faults.checkUnused(ports),
    get takenPorts() {
      return faults.takenPorts;
    },
  };
  const start = async (): Promise<NetworkDriver> =>
    createNetworkDriver({
      links,
      switchPort,
      tunnelGuard: { ensure: (tunnelAddress) => faults.ensureGuard(tunnelAddress) },
      uplink: faults.hasUplink ? uplink : undefined,
      filterWatch: {
        remember: async () => undefined,
        isUnchanged: async () => !faults.isFilterChanged,
      },
      datapath: "netdev",
      recordStore: onDisk(openJsonState(files.records, driverRecordsSchema, salvageRecords)),
      networkStateStore: onDisk(openJsonState(files.networkState, storedNetworkStateSchema)),
      linkPrefix,
      mtu: 1450,
      version: "test",
      nowMs: () => clock.nowMs,
      log: silentLog,
    });
  const { signal } = new AbortController();
  const created: string[] = [];
  const host = {
    ovs,
    bridge,
    names,
    networkId,
    dockerNetwork,
    tunnelUdpPort,
    faults,
    clock,
    files,
    links: realLinks,
    switchPort,
    driver: await start(),
    /** As after the end of the process: the driver loads its files again. */
    async restart() {
      host.driver = await start();
    },
    async call(method: string, body: object): Promise<{ Err?: string }> {
      const content = JSON.stringify({ NetworkID: dockerNetwork, ...body });
      return host.driver.answerDocker(`/NetworkDriver.${method}`, content);
    },
    createNetwork: (vni = 4097) =>
      host.call("CreateNetwork", {
        Options: {
          "com.docker.network.generic": {
            "berth.network": networkId,
            "berth.vni": String(vni),
          },
        },
      }),
    /** Returns the answer, and the id of the endpoint. */
    async createEndpoint(address: string, options: object = {}) {
      const EndpointID = randomBytes(32).toString("hex");
      created.push(EndpointID);
      const Interface = { Address: address };
      const answer = await host.call("CreateEndpoint", { EndpointID, Interface, Options: options });
      return { id: EndpointID, ...answer };
    },
    join: (EndpointID: string) => host.call("Join", { EndpointID, SandboxKey: "/x" }),
    /** As Docker does it after a join. */
    moveToContainer: async (id: string) => {
      await run("ip", ["link", "set", names.nameEnds(id).containerEnd, "netns", namespace]);
    },
    /** Creates, joins and moves. */
    async runContainer(address: string, options: object = {}): Promise<string> {
      const { id, Err } = await host.createEndpoint(address, options);
      const joined = await host.join(id);
      if (Err !== undefined || joined.Err !== undefined) throw new Error(Err ?? joined.Err);
      await host.moveToContainer(id);
      return id;
    },
    put: (state: object) =>
      host.driver.answerControl({
        method: "PUT",
        path: "/v1/network-state",
        body: JSON.stringify(state),
      }),
    vsctl: (...args: string[]) =>
      ovs.ovs("ovs-vsctl", `--db=unix:${ovs.runFolder}/db.sock`, ...args),
    ofctl: (command: string) =>
      ovs.ovs("ovs-ofctl", command, `unix:${ovs.runFolder}/${bridge}.mgmt`),
    countFlows: () => switchPort.countFlows(signal),
    hasLink: async (id: string) =>
      (await realLinks.list(signal)).some(({ name }) => name === names.nameEnds(id).hostEnd),
    async close() {
      await realLinks.remove(names.uplink.switchEnd, signal);
      for (const id of created) await realLinks.remove(names.nameEnds(id).hostEnd, signal);
      await ovs.close();
      await run("ip", ["netns", "delete", namespace]);
      await rm(folder, { recursive: true, force: true });
    },
  };
  await host.driver.converge(signal);
  await host.createNetwork();
  return host;
}

export type SwitchDriver = Awaited<ReturnType<typeof startSwitchDriver>>;

/** A network state with one remote port. */
export function stateOf(
  { networkId }: Pick<SwitchDriver, "networkId">,
  version: number,
  changes: object = {},
): NetworkState & Record<string, unknown> {
  const mac = "0a:00:0a:40:00:63";
  const remote = { mac, addresses: ["10.64.0.99"], tunnelAddress: "192.0.2.9" };
  const network = { networkId, vni: 4097, ...networkBasics, gateways: [], remotePorts: [remote] };
  return { source: "agent", version, tunnelAddress: null, networks: [{ ...network, ...changes }] };
}
