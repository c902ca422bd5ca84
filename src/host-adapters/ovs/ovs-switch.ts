import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  type BridgePort,
  type ListedPort,
  SwitchError,
  type SwitchPort,
  type TrackedConnections,
  type Translation,
  TUNNEL_PORT,
} from "../../network-driver/ports/switch-port.ts";
import { isAborted, toAbortError } from "../../lib/async/abort.ts";
import { CommandError, runCommand } from "../exec.ts";
import { diffFlows } from "./diff-flows.ts";
import { endTrackedConnections, listTranslations, type RunCommand } from "./tracked-connections.ts";

const vsctl = "/usr/bin/ovs-vsctl";
const ofctl = "/usr/bin/ovs-ofctl";
const appctl = "/usr/bin/ovs-appctl";

/** ovs-vsctl waits until the switch daemon has applied a change. */
const changeTimeoutMs = 10_000;
const listTimeoutMs = 5_000;
/**
 * While clients change other ports, the daemon sometimes opens an interface without storing its
 * port number. Such a port never gets one, so the adapter removes it and adds it again.
 */
const openAttemptsMax = 3;
/** 10,000 new flows take less than a second on an idle machine. */
const flowsTimeoutMs = 30_000;
const pingTimeoutMs = 2_000;

const kernelConnectionsFile = "/proc/sys/net/netfilter/nf_conntrack_max";
/** A network may use an eighth of the host's tracked connections. */
const connectionShares = 8;

export interface OvsSwitchOptions {
  /** The name of the integration bridge. */
  bridge: string;
  /** The kernel module, or the datapath in the daemon. */
  datapath: "system" | "netdev";
  /** The folder of the sockets and the pid file of Open vSwitch, OVS_RUNDIR. */
  runFolder: string;
  /** Connects the bridge with other hosts by VXLAN over this UDP port. */
  tunnel?: { udpPort: number };
}

/**
 * An integration bridge of Open vSwitch, controlled by `ovs-vsctl`, `ovs-ofctl` and `ovs-appctl`.
 * `ensureBridge` gives an existing bridge the datapath and the tunnel of the options. `listPorts`
 * includes the tunnel's port, without external ids.
 */
export function createOvsSwitch(options: OvsSwitchOptions): SwitchPort {
  return new OvsSwitch(options);
}

const namePattern = /^[A-Za-z0-9][\w.-]{0,14}$/;
const idKeyPattern = /^berth-[a-z0-9-]{1,50}$/;
const idValuePattern = /^[\x20-\x7e]{0,1024}$/;

/** A column without a value. */
const noValue = z.tuple([z.literal("set"), z.array(z.never())]);
const mapColumn = z.tuple([z.literal("map"), z.array(z.tuple([z.string(), z.string()]))]);
const interfaceTable = z.object({
  data: z.array(
    z.tuple([
      z.string(),
      z.union([z.number(), noValue]),
      z.union([z.number(), noValue]),
      mapColumn,
      mapColumn,
      z.union([z.string(), noValue]),
    ]),
  ),
});
const listInterfaces = [
  "--columns=name,ofport,ifindex,external_ids,other_config,error",
  "list",
  "Interface",
];
/** The key of the stored index of an interface: see OvsSwitch. Open vSwitch ignores it. */
const openedKey = "berth-ifindex";

/**
 * The netdev datapath opens an interface by name, and keeps reading from that very interface. If
 * the interface is deleted and created again, its port keeps its number, and receives nothing. Only
 * a removal of the port in a separate transaction helps. So `addPort` stores the kernel's index of
 * the interface that the daemon has opened, and compares it with the current one.
 */
class OvsSwitch implements SwitchPort {
  readonly #bridge: string;
  readonly #datapath: "system" | "netdev";
  readonly #runFolder: string;
  /** The bridge's socket for OpenFlow. */
  readonly #management: string;
  readonly #tunnel: { udpPort: number } | undefined;
  /**
   * The flows that the last call has applied. To compare 10,000 flows with those of the bridge, the
   * daemon must list them, and the netdev datapath forwards nothing meanwhile. So while the bridge
   * has this number of flows, a call sends only the differences from these.
   */
  #applied: readonly string[] | undefined;
  /** How often flows may have changed, and how many of these changes the datapath has surely. */
  #changes = 1;
  #changesInDatapath = 0;

  constructor({ bridge, datapath, runFolder, tunnel }: OvsSwitchOptions) {
    this.#bridge = checkName(bridge);
    this.#datapath = datapath;
    this.#runFolder = runFolder;
    this.#management = `unix:${join(runFolder, `${bridge}.mgmt`)}`;
    this.#tunnel = tunnel;
  }

  async ensureBridge(signal: AbortSignal): Promise<void> {
    const bridge = this.#bridge;
    const settings = [`datapath_type=${this.#datapath}`, "fail_mode=secure"];
    // One transaction: without the mode, a new bridge forwards every frame to all ports.
    const args = ["--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, ...settings];
    await this.#vsctl(args, { timeoutMs: changeTimeoutMs, signal });
    if (this.#tunnel) await this.#ensureTunnel(this.#tunnel, signal);
    await this.#limitConnections(signal);
  }

  /**
   * Limits the tracked connections of each conntrack zone, which is one network. All networks share
   * one connection table, and the kernel's also has the connections of the host. A restarted switch
   * has no limit.
   */
  async #limitConnections(signal: AbortSignal): Promise<void> {
    const options = { timeoutMs: listTimeoutMs, signal };
    const dpctl = (command: string, ...args: string[]) =>
      this.#run(appctl, ["--target=ovs-vswitchd", `dpctl/${command}`, ...args], options);
    // The datapath of each type has this name. The kernel's is a setting of the host.
    const isKernel = this.#datapath === "system";
    const datapath = isKernel ? "system@ovs-system" : "netdev@ovs-netdev";
    const text = isKernel
      ? await readFile(kernelConnectionsFile, "utf8").catch((error: unknown) => {
          throw new SwitchError(`Cannot read ${kernelConnectionsFile}.`, { cause: error });
        })
      : await dpctl("ct-get-maxconns", datapath);
    const share = Math.floor(Number(text) / connectionShares);
    if (!(share >= 1)) throw new SwitchError("The host's limit of tracked connections is unknown.");
    await dpctl("ct-set-limits", datapath, `default=${share}`);
  }

  /**
   * Ensures the tunnel's port. Replaces one that the daemon could not open, for example because
   * another program had the UDP port: the daemon does not retry reliably.
   */
  async #ensureTunnel({ udpPort }: { udpPort: number }, signal: AbortSignal): Promise<void> {
    const name = TUNNEL_PORT;
    const options = `options={remote_ip=flow,key=flow,dst_port=${udpPort}}`;
    const args = ["--may-exist", "add-port", this.#bridge, name];
    args.push("--", "set", "Interface", name, "type=vxlan", options, "--", ...listInterfaces, name);
    const add = () => this.#vsctl(args, { timeoutMs: changeTimeoutMs, signal });
    const before = readInterfaces(await add()).at(0);
    if (!before || before.isNew || before.ofPort !== undefined) return;
    await this.removePort(name, signal);
    await add();
  }

  async addPort(port: BridgePort, signal: AbortSignal): Promise<void> {
    const name = checkName(port.name);
    const before = await this.#addRow(port, signal);
    if (before?.isOpened && before.ofPort !== undefined) return;
    if (!before?.isNew) {
      await this.removePort(name, signal);
      await this.#addRow(port, signal);
    }
    for (let attempt = 1; ; attempt++) {
      // ovs-vsctl succeeds even if the daemon cannot open the interface.
      const [row] = readInterfaces(await this.#vsctl([...listInterfaces, name], { signal }));
      if (row?.ofPort && row.interfaceIndex) {
        const opened = `other_config:${openedKey}=${row.interfaceIndex}`;
        // The daemon ignores this member, so the call does not wait for it.
        await this.#vsctl(["set", "Interface", name, opened], { signal, waits: false });
        return;
      }
      await this.removePort(name, signal);
      if (row?.error !== undefined || attempt === openAttemptsMax)
        throw new SwitchError(`Open vSwitch cannot open ${name}: ${row?.error ?? "it vanished"}.`);
      await this.#addRow(port, signal);
    }
  }

  /** Ensures the port with its external ids, and returns its row as it was before. */
  async #addRow({ name, externalIds }: BridgePort, signal: AbortSignal) {
    const ids = Object.entries(externalIds).map(([key, value]) => formatId(key, value));
    const args = ["--may-exist", "add-port", this.#bridge, name, "--"];
    args.push("set", "Interface", name, `external_ids={${ids.join(",")}}`, "--");
    args.push(...listInterfaces, name);
    return readInterfaces(await this.#vsctl(args, { timeoutMs: changeTimeoutMs, signal })).at(0);
  }

  async removePort(name: string, signal: AbortSignal): Promise<void> {
    const args = ["--if-exists", "del-port", this.#bridge, checkName(name)];
    await this.#vsctl(args, { timeoutMs: changeTimeoutMs, signal });
  }

  async listPorts(signal: AbortSignal): Promise<ListedPort[]> {
    // One transaction prints a line for each port of the bridge, and one for all interfaces.
    const args = ["list-ports", this.#bridge, "--", ...listInterfaces];
    const lines = (await this.#vsctl(args, { signal })).trimEnd().split("\n");
    const names = new Set(lines.slice(0, -1));
    return readInterfaces(lines.at(-1) ?? "")
      .filter(({ name }) => names.has(name))
      .map(({ name, externalIds, ofPort, isStale, error }) => ({
        name,
        externalIds,
        ofPort: isStale ? undefined : ofPort,
        ...(error === undefined ? {} : { error }),
      }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async replaceFlows(flows: readonly string[], signal: AbortSignal): Promise<void> {
    const broken = flows.find((line) => /[\r\n#]/.test(line));
    if (broken !== undefined) throw new SwitchError(`"${broken}" is not one flow.`);
    const before = this.#applied;
    // If the call fails or is aborted, the flows of the bridge are not known.
    this.#applied = undefined;
    try {
      if (before && (await this.countFlows(signal)) === before.length)
        await this.#changeFlows(diffFlows(before, flows), signal);
      else {
        await this.#exposePorts(signal);
        await this.#writeFlows(["--bundle", "replace-flows"], flows, signal);
      }
    } finally {
      this.#changes += 1;
    }
    this.#applied = [...flows];
  }

  /**
   * Without this mode, flows see no ports in the first fragment of a datagram, so a fragmented one
   * would bypass flows that drop ports. A restarted switch has lost the mode with all flows.
   */
  async #exposePorts(signal: AbortSignal): Promise<void> {
    const args = ["set-frags", this.#management, "nx-match"];
    await this.#ofctl(args, { timeoutMs: listTimeoutMs, signal });
  }

  async #changeFlows(changes: readonly string[], signal: AbortSignal): Promise<void> {
    if (changes.length > 0) await this.#writeFlows(["bundle"], changes, signal);
  }

  async #writeFlows(
    command: readonly string[],
    lines: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    const input = lines.map((line) => `${line}\n`).join("");
    const args = [...command, this.#management, "-"];
    await this.#ofctl(args, { timeoutMs: flowsTimeoutMs, signal, input });
  }

  async endConnections(connections: TrackedConnections, signal: AbortSignal): Promise<void> {
    await this.#awaitDatapath(signal);
    await endTrackedConnections(connections, this.#controlZone(connections.zone, signal));
  }

  async listTranslations(zone: number, signal: AbortSignal): Promise<Translation[]> {
    return listTranslations(this.#controlZone(zone, signal));
  }

  #controlZone(zone: number, signal: AbortSignal): RunCommand {
    return (command, ...args) => {
      // Open vSwitch 3.1 accepts no datapath together with a zone.
      const head = ["--target=ovs-vswitchd", `dpctl/${command}`, `zone=${zone}`];
      return this.#run(appctl, [...head, ...args], { timeoutMs: listTimeoutMs, signal });
    };
  }

  /**
   * Waits until the datapath forwards nothing by a flow that has been replaced. It repeats earlier
   * decisions, which the daemon checks in passes. By such a decision, a connection that has just
   * ended would open again.
   */
  async #awaitDatapath(signal: AbortSignal): Promise<void> {
    const changes = this.#changes;
    if (this.#changesInDatapath >= changes) return;
    // The current pass may have begun before the change.
    for (let pass = 1; pass <= 2; pass++) {
      const args = ["--target=ovs-vswitchd", "revalidator/wait"];
      await this.#run(appctl, args, { timeoutMs: listTimeoutMs, signal });
    }
    this.#changesInDatapath = changes;
  }

  async countFlows(signal: AbortSignal): Promise<number> {
    const args = ["dump-aggregate", this.#management];
    const output = await this.#ofctl(args, { timeoutMs: listTimeoutMs, signal });
    const count = /\bflow_count=(\d+)/.exec(output)?.[1];
    if (count === undefined) throw new SwitchError("Open vSwitch did not count its flows.");
    return Number(count);
  }

  async isUp(signal: AbortSignal): Promise<boolean> {
    const options = { timeoutMs: pingTimeoutMs, signal };
    try {
      await Promise.all([
        this.#vsctl(["get", "Open_vSwitch", ".", "_uuid"], options),
        this.#run(appctl, ["--target=ovs-vswitchd", "version"], options),
      ]);
      return true;
    } catch (error) {
      if (isAborted(signal)) throw toAbortError(signal);
      if (error instanceof SwitchError) return false;
      throw error;
    }
  }

  #vsctl(
    args: readonly string[],
    { timeoutMs = listTimeoutMs, waits = true, signal }: CallOptions,
  ): Promise<string> {
    const database = `--db=unix:${join(this.#runFolder, "db.sock")}`;
    const waitSeconds = Math.ceil(timeoutMs / 1_000);
    const wait = waits ? [] : ["--no-wait"];
    const head = [database, `--timeout=${waitSeconds}`, "--format=json", ...wait];
    return this.#run(vsctl, [...head, "--", ...args], { timeoutMs: timeoutMs + 1_000, signal });
  }

  /** OpenFlow 1.4 is the first version with bundles. */
  #ofctl(args: readonly string[], options: RunOptions) {
    return this.#run(ofctl, ["--protocols=OpenFlow14", ...args], options);
  }

  async #run(program: string, args: readonly string[], options: RunOptions): Promise<string> {
    // The programs find each other's sockets by this folder.
    const env = { OVS_RUNDIR: this.#runFolder };
    try {
      return await runCommand(program, args, { ...options, env });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      throw new SwitchError(`Open vSwitch failed: ${error.message}`, { cause: error });
    }
  }
}

interface CallOptions {
  timeoutMs?: number;
  /** False for a change that the daemon ignores. By default, waits until it is in force. */
  waits?: boolean;
  signal: AbortSignal;
}

interface RunOptions {
  timeoutMs: number;
  signal: AbortSignal;
  input?: string;
}

function readInterfaces(json: string) {
  return interfaceTable
    .parse(JSON.parse(json))
    .data.map(([name, ofPort, interfaceIndex, externalIds, settings, error]) => {
      const index = typeof interfaceIndex === "number" ? interfaceIndex : 0;
      const opened = new Map(settings[1]).get(openedKey);
      return {
        name,
        externalIds: Object.fromEntries(externalIds[1]),
        // The number is -1 if the daemon could not open the interface.
        ofPort: typeof ofPort === "number" && ofPort > 0 ? ofPort : undefined,
        /** The daemon has not seen the port yet. */
        isNew: typeof ofPort !== "number",
        /** 0 if the interface has vanished. */
        interfaceIndex: index,
        isOpened: index > 0 && opened === String(index),
        /** The interface that the daemon has opened has vanished. */
        isStale: opened !== undefined && opened !== String(index),
        error: typeof error === "string" ? error : undefined,
      };
    });
}

function checkName(name: string): string {
  if (namePattern.test(name)) return name;
  throw new SwitchError(`${JSON.stringify(name)} is not the name of a network interface.`);
}

/** Renders a member of a map for ovs-vsctl, which reads a quoted text as JSON. */
function formatId(key: string, value: string): string {
  if (!idKeyPattern.test(key) || !idValuePattern.test(value))
    throw new SwitchError(`${JSON.stringify(key)} is not a valid external id.`);
  return `${JSON.stringify(key)}=${JSON.stringify(value)}`;
}
