import { execFile } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { createLinkNames } from "../../src/network-driver/model/link-names.ts";
import { removeFilterChains } from "../../test/support/network/filter-chains.ts";
import { noteTraces } from "../../test/support/network/machine-traces.ts";
import { type PrivateOvs, startPrivateOvs } from "../../test/support/ovs/private-ovs.ts";
import { type MainProcess, startMain } from "../../test/support/servers/main-process.ts";

const run = promisify(execFile);
/** No other network driver of the machine uses these names. */
const plugin = `berth-demo-${process.pid}`;
const bridge = "berthdemo";
const linkPrefix = "bd";
/** Packets of sets have its addresses on their way through the machine. */
const outboundSubnet = "198.18.0.0/16";
/** No tunnel leads to this port, because the demo has one host. */
const tunnelUdpPort = "47890";

/**
 * The network of the demo's host: an Open vSwitch and a network driver of its own. The machine may
 * have others.
 */
export class DemoNetwork {
  readonly #folder: string;
  #starting: Promise<void> | undefined;
  #ovs: PrivateOvs | undefined;
  #driver: MainProcess | undefined;

  constructor(dataDir: string) {
    this.#folder = path.join(dataDir, "network");
  }

  /** The settings of the host's agent. */
  get agentSettings(): Record<string, string> {
    return {
      BERTH_NETWORK_PLUGIN: plugin,
      BERTH_NETWORK_CONTROL_SOCKET: path.join(this.#folder, "driver.sock"),
    };
  }

  start(): Promise<void> {
    this.#starting = this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    noteTraces({ bridge }, { linkPrefix }, { plugin });
    this.#ovs = await startPrivateOvs({ isDetached: true });
    const settings = {
      ...this.agentSettings,
      BERTH_NETWORK_DATA_DIR: this.#folder,
      BERTH_NETWORK_BRIDGE: bridge,
      // The one that needs no module of the kernel.
      BERTH_NETWORK_DATAPATH: "netdev",
      BERTH_NETWORK_LINK_PREFIX: linkPrefix,
      BERTH_NETWORK_OVS_RUNDIR: this.#ovs.runFolder,
      BERTH_NETWORK_OUTBOUND_SUBNET: outboundSubnet,
      BERTH_NETWORK_TUNNEL_PORT: tunnelUdpPort,
      // The folder of the name server may belong to another driver.
      BERTH_NETWORK_DNS: "false",
    };
    this.#driver = await startMain("network-driver", settings, { isDetached: true });
  }

  /** The log of the driver, as lines of JSON. */
  driverLog(): string[] {
    return this.#driver?.logLines().map((line) => JSON.stringify(line)) ?? [];
  }

  /** Ends the driver and the switch, and removes what they leave. No set may be connected. */
  async stop(): Promise<void> {
    // Ctrl-C may come during the start, and a driver without an owner would add traces later.
    await this.#starting?.catch(() => undefined);
    await this.#removeDockerNetworks();
    await this.#driver?.end("SIGTERM");
    await this.#ovs?.close();
    await rm(`/run/docker/plugins/${plugin}.sock`, { force: true });
    const { routingEnd } = createLinkNames(linkPrefix).uplink;
    for (const name of [routingEnd, bridge])
      await run("ip", ["link", "delete", name]).catch(() => undefined); // usually it is removed
    await removeFilterChains(bridge);
  }

  /** Removes networks that the agent has not, because the demo has ended early. */
  async #removeDockerNetworks(): Promise<void> {
    const filter = `driver=${plugin}`;
    const { stdout } = await run("docker", ["network", "ls", "--quiet", "--filter", filter]);
    const ids = stdout.split("\n").filter((id) => id !== "");
    if (ids.length > 0) await run("docker", ["network", "rm", ...ids]);
  }
}
