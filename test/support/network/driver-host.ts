import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type Docker from "dockerode";
import {
  type DriverStatus,
  driverStatusSchema,
} from "../../../src/contracts/network-driver/driver-status.ts";
import { newId } from "../../../src/lib/ids.ts";
import { baseImage, ensureBaseImage } from "../docker/docker.ts";
import {
  type DockerVersion,
  type PrivateDocker,
  startPrivateDocker,
} from "../docker/private-docker.ts";
import { type PrivateOvs, startPrivateOvs } from "../ovs/private-ovs.ts";
import { type MainProcess, startMain } from "../servers/main-process.ts";
import { waitUntil } from "../wait-until.ts";
import { removeFilterChains } from "./filter-chains.ts";
import { networkBasics } from "./host-network.ts";
import { noteTraces } from "./machine-traces.ts";

const run = promisify(execFile);
const requestTimeoutMs = 30_000;

export interface ControlResponse {
  status: number;
  body: unknown;
}

/** One host with Docker, Open vSwitch and the network driver, all of which belong to one test. */
export interface DriverHost {
  privateDocker: PrivateDocker;
  docker: Docker;
  ovs: PrivateOvs;
  /** The name of the plugin, unique on the machine: all daemons share the folder of plugins. */
  plugin: string;
  pluginSocket: string;
  controlSocket: string;
  /** The folder of the driver's state. */
  folder: string;
  bridge: string;
  driver(): MainProcess;
  startDriver(env?: Readonly<Record<string, string>>): Promise<void>;
  endDriver(signal: NodeJS.Signals): Promise<void>;
  control(method: string, path: string, body?: unknown): Promise<ControlResponse>;
  /** One call as Docker makes it. */
  call(method: string, body: unknown): Promise<Record<string, unknown>>;
  status(): Promise<DriverStatus>;
  /** Adds networks to the network state, as the agent does before their first sets. */
  addNetworks(
    ...networks: readonly { networkId: string; vni: number; gateways: readonly string[] }[]
  ): Promise<void>;
  /** The driver's ends of links in the machine's namespace, both kinds. */
  listLinks(): Promise<string[]>;
  listSwitchPorts(): Promise<string[]>;
  close(): Promise<void>;
}

/** An address of the host in the network of the tunnels, and its end of the link there. */
export interface Underlay {
  tunnelAddress: string;
  uplink: string;
}

/**
 * @param dockerVersion the default is the machine's Docker
 * @param namespace of all processes of the host, with its underlay. The default is the machine's.
 */
export async function startDriverHost(
  dockerVersion?: DockerVersion,
  {
    namespace,
    underlay,
    outboundSubnet = "none",
    settings: more = {},
  }: {
    namespace?: string;
    underlay?: Underlay;
    outboundSubnet?: string;
    settings?: Readonly<Record<string, string>>;
  } = {},
): Promise<DriverHost> {
  const folder = await mkdtemp(join(tmpdir(), "berth-netdrv-"));
  const suffix = randomBytes(4).toString("hex");
  const plugin = `berth-${suffix}`;
  const bridge = `b${suffix}`;
  const linkPrefix = `t${suffix.slice(0, 2)}`;
  const pluginSocket = `/run/docker/plugins/${plugin}.sock`;
  const controlSocket = join(folder, "control.sock");
  noteTraces({ bridge }, { linkPrefix }, { file: pluginSocket });
  const ovs = await startPrivateOvs(namespace === undefined ? {} : { namespace });
  if (namespace !== undefined && underlay) await addUnderlay(ovs, namespace, underlay);
  const privateDocker = await startPrivateDocker({ version: dockerVersion, namespace });
  await ensureBaseImage(privateDocker.docker);
  let driver: MainProcess | undefined;
  const settings = {
    BERTH_NETWORK_PLUGIN: plugin,
    BERTH_NETWORK_CONTROL_SOCKET: controlSocket,
    BERTH_NETWORK_DATA_DIR: folder,
    BERTH_NETWORK_BRIDGE: bridge,
    BERTH_NETWORK_DATAPATH: "netdev",
    BERTH_NETWORK_OVS_RUNDIR: ovs.runFolder,
    BERTH_NETWORK_TUNNEL_PORT: underlay
      ? "4789"
      : String(20_000 + (Number.parseInt(suffix, 16) % 10_000)),
    BERTH_NETWORK_LINK_PREFIX: linkPrefix,
    // The route of this subnet is one for the whole namespace.
    BERTH_NETWORK_OUTBOUND_SUBNET: outboundSubnet,
    // The default folder belongs to the machine.
    BERTH_NETWORK_DNS: "false",
    ...more,
  };
  const startDriver = async (env: Readonly<Record<string, string>> = {}) => {
    driver = await startMain("network-driver", { ...settings, ...env }, { namespace });
  };
  const control = async (method: string, path: string, body?: unknown) =>
    requestSocket(controlSocket, method, path, body);
  await startDriver();
  const stateNetworks = new Map<string, object>();
  let stateVersion = 0;
  return {
    privateDocker,
    docker: privateDocker.docker,
    ovs,
    plugin,
    pluginSocket,
    controlSocket,
    folder,
    bridge,
    driver: () => {
      if (!driver) throw new Error("the driver has not started");
      return driver;
    },
    startDriver,
    endDriver: async (signal) => {
      await driver?.end(signal);
    },
    control,
    call: async (method, body) => {
      const { body: answer } = await requestSocket(pluginSocket, "POST", `/${method}`, body);
      return answer as Record<string, unknown>;
    },
    status: async () => driverStatusSchema.parse((await control("GET", "/v1/status")).body),
    addNetworks: async (...networks) => {
      for (const { networkId, vni, gateways } of networks) {
        const network = { networkId, vni, ...networkBasics, gateways, remotePorts: [] };
        stateNetworks.set(networkId, network);
      }
      stateVersion += 1;
      await control("PUT", "/v1/network-state", {
        source: "test-networks",
        version: stateVersion,
        tunnelAddress: null,
        networks: [...stateNetworks.values()],
      });
    },
    listLinks: async () =>
      (await readdir("/sys/class/net")).filter((name) => name.startsWith(linkPrefix)).sort(),
    listSwitchPorts: async () => {
      const output = await ovs.ovs(
        "ovs-vsctl",
        `--db=unix:${ovs.runFolder}/db.sock`,
        "list-ports",
        bridge,
      );
      return output
        .split("\n")
        .filter((name) => name.startsWith(linkPrefix))
        .sort();
    },
    close: async () => {
      await privateDocker.close();
      await driver?.end("SIGTERM");
      await removeFilterChains(bridge);
      await ovs.close();
      await rm(pluginSocket, { force: true });
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The netdev datapath finds routes of the tunnel only among its own bridges. */
async function addUnderlay(
  ovs: PrivateOvs,
  namespace: string,
  { tunnelAddress, uplink }: Underlay,
): Promise<void> {
  const name = "br-tunnel";
  const bridge = ["add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev"];
  const database = `--db=unix:${ovs.runFolder}/db.sock`;
  await ovs.ovs("ovs-vsctl", database, ...bridge, "--", "add-port", name, uplink);
  const ip = (...args: string[]) => run("ip", ["-n", namespace, ...args]);
  await ip("addr", "add", `${tunnelAddress}/24`, "dev", name);
  for (const device of ["lo", uplink, name]) await ip("link", "set", device, "up");
}

export interface TestNetwork {
  dockerNetwork: string;
  networkId: string;
  vni: number;
}

/** Creates a Docker network of Berth's driver, which permits new connections in it. */
export async function createNetwork(
  { docker, plugin, addNetworks }: Pick<DriverHost, "docker" | "plugin" | "addNetworks">,
  {
    vni,
    subnet = "10.64.0.0/16",
    gateway = "10.64.0.1",
    subnet6,
    gateway6,
  }: { vni: number; subnet?: string; gateway?: string; subnet6?: string; gateway6?: string },
): Promise<TestNetwork> {
  const networkId = newId("net");
  const dockerNetwork = `berth-${networkId}`;
  const config = [{ Subnet: subnet, Gateway: gateway }];
  if (subnet6 !== undefined && gateway6 !== undefined)
    config.push({ Subnet: subnet6, Gateway: gateway6 });
  await docker.createNetwork({
    Name: dockerNetwork,
    Driver: plugin,
    EnableIPv6: subnet6 !== undefined,
    IPAM: { Driver: plugin, Config: config },
    Options: { "berth.network": networkId, "berth.vni": String(vni) },
  });
  const gateways = config.map(({ Gateway }) => Gateway);
  await addNetworks({ networkId, vni, gateways });
  return { dockerNetwork, networkId, vni };
}

export interface TestContainer {
  network: TestNetwork;
  address: string;
  address6?: string;
  mac?: string;
  /** The default waits for the end of the container. */
  command?: string;
  restart?: "always";
  /** Without it, the driver cannot rebuild a lost network from the container. */
  driverOptions?: Record<string, string>;
}

export async function createContainer(
  docker: Docker,
  { network, address, address6, mac, command, restart, driverOptions = {} }: TestContainer,
): Promise<Docker.Container> {
  return docker.createContainer({
    Image: baseImage,
    Cmd: ["/bin/sh", "-c", command ?? "trap 'exit 0' TERM; sleep 100000 & wait"],
    StopTimeout: 1,
    ...(mac === undefined ? {} : { MacAddress: mac }),
    HostConfig: {
      NetworkMode: network.dockerNetwork,
      ...(restart === undefined ? {} : { RestartPolicy: { Name: restart } }),
    },
    NetworkingConfig: {
      EndpointsConfig: {
        [network.dockerNetwork]: {
          IPAMConfig: {
            IPv4Address: address,
            ...(address6 === undefined ? {} : { IPv6Address: address6 }),
          },
          DriverOpts: { "berth.set": "set_01jd0000000000000000000000", ...driverOptions },
        },
      },
    },
  });
}

/** Serves the text on TCP port 80 in a container. */
export function serveText(text: string): string {
  return `mkdir -p /www && echo ${text} > /www/index.html && exec httpd -f -p 80 -h /www`;
}

/** Fetches the page of a server from a container, by repeated attempts until the deadline. */
export async function fetchFrom(container: Docker.Container, address: string): Promise<string> {
  return waitUntil(`${address} answers over TCP`, () => tryFetch(container, address));
}

/**
 * One attempt; undefined without an answer. The machine's shell connects from the namespace of the
 * container, because the static BusyBox crashes where Docker's DNS server is configured.
 */
export async function tryFetch(
  container: Docker.Container,
  address: string,
): Promise<string | undefined> {
  const { State } = await container.inspect();
  const script = `exec 3<>/dev/tcp/${address}/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
  const enter = [`--net=/proc/${State.Pid}/ns/net`, "timeout", "3", "bash", "-c", script];
  const answer = await run("nsenter", enter).catch(() => undefined);
  return answer?.stdout.split("\r\n\r\n").at(1)?.trim();
}

export async function shell(container: Docker.Container, command: string): Promise<string> {
  const exec = await container.exec({
    Cmd: ["/bin/sh", "-c", command],
    AttachStdout: true,
    AttachStderr: true,
    Tty: true, // without frames
  });
  let output = "";
  for await (const chunk of await exec.start({ Tty: true })) output += String(chunk);
  return output.trim();
}

/** The addresses and the MAC address of `eth0` in a container. */
export async function readInterface(
  container: Docker.Container,
): Promise<{ mac: string; addresses: string[]; mtu: string; defaultRoute: string }> {
  const text = await shell(container, "ip addr show dev eth0; ip route");
  return {
    mac: /link\/ether (\S+)/.exec(text)?.[1] ?? "",
    addresses: [...text.matchAll(/inet6? (\S+) .*scope global/g)].map((match) => match[1] ?? ""),
    mtu: /mtu (\d+)/.exec(text)?.[1] ?? "",
    defaultRoute: /default via (\S+)/.exec(text)?.[1] ?? "",
  };
}

async function requestSocket(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
): Promise<ControlResponse> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, timeout: requestTimeoutMs }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as unknown }),
      );
      response.on("error", reject);
    });
    call.on("error", reject);
    call.on("timeout", () => call.destroy(new Error(`${method} ${path} did not answer`)));
    call.end(
      body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
    );
  });
}
