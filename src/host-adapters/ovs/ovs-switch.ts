import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import {
  type BridgePort,
  type ListedPort,
  SwitchError,
  type SwitchPort,
  type TrackedConnections,
  type Translation,
  TUNNEL_PORT,
} from "../../network-driver/ports/switch-port.ts";
import { isAborted, runAbortable, toAbortError } from "../../lib/async/abort.ts";
import { toCpuMask } from "../../lib/linux/cpu-list.ts";
import { CommandError, runCommand, runForLines } from "../exec.ts";
import { diffFlows } from "./diff-flows.ts";
import { readFlowCount } from "./flow-count.ts";
import { type OvsdbSession, withOvsdb } from "./ovsdb-session.ts";
import {
  deletePort,
  findInterface,
  insertPort,
  listInterfaces,
  storeOpened,
  updateExternalIds,
} from "./port-table.ts";
import {
  type ConnectionCommands,
  endTrackedConnections,
  listTranslations,
} from "./tracked-connections.ts";

const vsctl = "/usr/bin/ovs-vsctl";
const ofctl = "/usr/bin/ovs-ofctl";
const appctl = "/usr/bin/ovs-appctl";

/** A change waits until the switch daemon has applied it. */
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
/** A list of 100,000 connections takes a second on an idle machine. */
const dumpTimeoutMs = 15_000;
/** A line has about 200 characters. */
const dumpLineCharsMax = 4_096;
/** One pass over all decisions of the datapath, of which it may have 200,000. */
const passTimeoutMs = 60_000;
/** A caller waits this long for the passes, which continue beyond it. */
const passesWaitMs = 5_000;

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
  /** The processors of the threads that poll network cards. Undefined to leave them as they are. */
  pmdCpus?: readonly number[] | undefined;
}

/**
 * An integration bridge of Open vSwitch. Calls for ports, which a start of a container awaits, are
 * sessions with the database. The others run `ovs-vsctl`, `ovs-ofctl` and `ovs-appctl`.
 * `ensureBridge` gives an existing bridge the datapath and the tunnel of the options. `listPorts`
 * includes the tunnel's port, without external ids.
 */
export function createOvsSwitch(options: OvsSwitchOptions): SwitchPort {
  return new OvsSwitch(options);
}

const namePattern = /^[A-Za-z0-9][\w.-]{0,14}$/;
const idKeyPattern = /^berth-[a-z0-9-]{1,50}$/;
const idValuePattern = /^[\x20-\x7e]{0,1024}$/;

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
  readonly #pmdCpus: readonly number[] | undefined;
  /**
   * The flows that the last call has applied. To compare 10,000 flows with those of the bridge, the
   * daemon must list them, and the netdev datapath forwards nothing meanwhile. So while the bridge
   * has this number of flows, a call sends only the differences from these.
   */
  #applied: readonly string[] | undefined;
  /** The last change of flows, and the last one that is known to be in the datapath. */
  #flowGeneration = 1;
  #datapathGeneration = 0;
  /** Passes of the revalidator that have not ended. */
  #passes: Promise<void> | undefined;

  constructor({ bridge, datapath, runFolder, tunnel, pmdCpus }: OvsSwitchOptions) {
    this.#bridge = checkName(bridge);
    this.#datapath = datapath;
    this.#runFolder = runFolder;
    this.#management = `unix:${join(runFolder, `${bridge}.mgmt`)}`;
    this.#tunnel = tunnel;
    this.#pmdCpus = pmdCpus;
  }

  async ensureBridge(signal: AbortSignal): Promise<void> {
    const bridge = this.#bridge;
    const settings = [`datapath_type=${this.#datapath}`, "fail_mode=secure"];
    // One transaction: without the mode, a new bridge forwards every frame to all ports.
    const args = ["--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, ...settings];
    const mask = this.#pmdCpus && `other_config:pmd-cpu-mask=${toCpuMask(this.#pmdCpus)}`;
    if (mask !== undefined) args.push("--", "set", "Open_vSwitch", ".", mask);
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
    args.push("--", "set", "Interface", name, "type=vxlan", options);
    const add = () => this.#vsctl(args, { timeoutMs: changeTimeoutMs, signal });
    const find = (session: OvsdbSession) => findInterface(session, this.#bridge, name);
    const before = await this.#database(find, { timeoutMs: listTimeoutMs, signal });
    await add();
    if (!before || before.isNew || before.ofPort !== undefined) return;
    await this.removePort(name, signal);
    await add();
  }

  async addPort(port: BridgePort, signal: AbortSignal): Promise<void> {
    checkName(port.name);
    checkExternalIds(port.externalIds);
    const options = { timeoutMs: changeTimeoutMs, signal };
    await this.#database((session) => this.#addPort(session, port), options);
  }

  async #addPort(session: OvsdbSession, port: BridgePort): Promise<void> {
    const { name } = port;
    const before = await findInterface(session, this.#bridge, name);
    if (before?.isOpened && before.ofPort !== undefined) {
      if (isDeepStrictEqual(before.externalIds, { ...port.externalIds })) return;
      return updateExternalIds(session, port);
    }
    if (before) await deletePort(session, this.#bridge, name);
    for (let attempt = 1; ; attempt++) {
      await insertPort(session, this.#bridge, port);
      const row = await findInterface(session, this.#bridge, name);
      if (row?.ofPort && row.interfaceIndex) return storeOpened(session, row);
      await deletePort(session, this.#bridge, name);
      if (row?.error !== undefined || attempt === openAttemptsMax)
        throw new SwitchError(`Open vSwitch cannot open ${name}: ${row?.error ?? "it vanished"}.`);
    }
  }

  async removePort(name: string, signal: AbortSignal): Promise<void> {
    checkName(name);
    const options = { timeoutMs: changeTimeoutMs, signal };
    await this.#database((session) => deletePort(session, this.#bridge, name), options);
  }

  async listPorts(signal: AbortSignal): Promise<ListedPort[]> {
    const list = (session: OvsdbSession) => listInterfaces(session, this.#bridge);
    return (await this.#database(list, { timeoutMs: listTimeoutMs, signal }))
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
      this.#flowGeneration += 1;
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
    await this.#awaitDatapath(signal);
    return listTranslations(this.#controlZone(zone, signal));
  }

  #controlZone(zone: number, signal: AbortSignal): ConnectionCommands {
    // Open vSwitch 3.1 accepts no datapath together with a zone.
    const args = (command: string) => ["--target=ovs-vswitchd", `dpctl/${command}`, `zone=${zone}`];
    return {
      dump: (onLine) =>
        this.#runWith((env) =>
          runForLines(appctl, args("dump-conntrack"), {
            timeoutMs: dumpTimeoutMs,
            signal,
            env,
            lineCharsMax: dumpLineCharsMax,
            onLine,
          }),
        ),
      flush: (...filters) => {
        const options = { timeoutMs: listTimeoutMs, signal };
        return this.#run(appctl, [...args("flush-conntrack"), ...filters], options);
      },
    };
  }

  /**
   * Waits until the datapath forwards nothing by a flow that has been replaced. The datapath caches
   * decisions (megaflows), which the revalidator of the daemon checks in passes. A packet that
   * follows an old decision could open an ended connection again, or a new one after the list.
   *
   * It rejects after `passesWaitMs`. The passes continue, so a later call finds their result.
   */
  async #awaitDatapath(signal: AbortSignal): Promise<void> {
    const generation = this.#flowGeneration;
    const onLate = (): never => {
      const seconds = passesWaitMs / 1_000;
      throw new SwitchError(`Open vSwitch has checked its flows for more than ${seconds} s.`);
    };
    const deadline = { timeoutMs: passesWaitMs, onLate };
    await runAbortable({ signal, deadline }, async () => {
      while (this.#datapathGeneration < generation) await this.#finishPasses(signal);
    });
  }

  /** Two passes, because the current one may predate the change. Calls share them. */
  #finishPasses(signal: AbortSignal): Promise<void> {
    const finish = async (): Promise<void> => {
      const generation = this.#flowGeneration;
      const args = ["--target=ovs-vswitchd", "revalidator/wait"];
      for (let pass = 1; pass <= 2; pass++)
        await this.#run(appctl, args, { timeoutMs: passTimeoutMs, signal });
      this.#datapathGeneration = generation;
    };
    this.#passes ??= finish().finally(() => {
      this.#passes = undefined;
    });
    return this.#passes;
  }

  async countFlows(signal: AbortSignal): Promise<number> {
    const socketPath = join(this.#runFolder, `${this.#bridge}.mgmt`);
    const options = { socketPath, timeoutMs: listTimeoutMs, signal };
    return readFlowCount(options);
  }

  async isUp(signal: AbortSignal): Promise<boolean> {
    const options = { timeoutMs: pingTimeoutMs, signal };
    try {
      await Promise.all([
        this.#database((session) => session.transact([]), options),
        this.#run(appctl, ["--target=ovs-vswitchd", "version"], options),
      ]);
      return true;
    } catch (error) {
      if (isAborted(signal)) throw toAbortError(signal);
      if (error instanceof SwitchError) return false;
      throw error;
    }
  }

  #database<T>(work: (session: OvsdbSession) => Promise<T>, options: CallOptions): Promise<T> {
    const socketPath = join(this.#runFolder, "db.sock");
    return withOvsdb({ socketPath, ...options }, work);
  }

  #vsctl(args: readonly string[], { timeoutMs, signal }: CallOptions): Promise<string> {
    const database = `--db=unix:${join(this.#runFolder, "db.sock")}`;
    const waitSeconds = Math.ceil(timeoutMs / 1_000);
    const head = [database, `--timeout=${waitSeconds}`, "--"];
    return this.#run(vsctl, [...head, ...args], { timeoutMs: timeoutMs + 1_000, signal });
  }

  /**
   * OpenFlow 1.4 is the first version with bundles. Without names of ports and tables, ovs-ofctl
   * does not read the features of all tables first, which are a megabyte.
   */
  #ofctl(args: readonly string[], options: RunOptions) {
    return this.#run(ofctl, ["--protocols=OpenFlow14", "--no-names", ...args], options);
  }

  async #run(program: string, args: readonly string[], options: RunOptions): Promise<string> {
    return this.#runWith((env) => runCommand(program, args, { ...options, env }));
  }

  async #runWith<T>(run: (env: Record<string, string>) => Promise<T>): Promise<T> {
    try {
      // The programs find each other's sockets by this folder.
      return await run({ OVS_RUNDIR: this.#runFolder });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      throw new SwitchError(`Open vSwitch failed: ${error.message}`, { cause: error });
    }
  }
}

interface CallOptions {
  timeoutMs: number;
  signal: AbortSignal;
}

interface RunOptions extends CallOptions {
  input?: string;
}

function checkName(name: string): string {
  if (namePattern.test(name)) return name;
  throw new SwitchError(`${JSON.stringify(name)} is not the name of a network interface.`);
}

function checkExternalIds(externalIds: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(externalIds))
    if (!idKeyPattern.test(key) || !idValuePattern.test(value))
      throw new SwitchError(`${JSON.stringify(key)} is not a valid external id.`);
}
