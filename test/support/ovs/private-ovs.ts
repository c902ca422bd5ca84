import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type ChildServer, startChildServer } from "../servers/child-server.ts";
import { waitUntil } from "../wait-until.ts";

const run = promisify(execFile);
const schema = "/usr/share/openvswitch/vswitch.ovsschema";
const startDeadlineMs = 30_000;

/** An Open vSwitch that belongs to one test. Its bridges must use the netdev datapath. */
export interface PrivateOvs {
  /** The folder of its sockets (OVS_RUNDIR). */
  runFolder: string;
  /** Runs a program of Open vSwitch against it. */
  ovs(program: string, ...args: string[]): Promise<string>;
  /** Ends the switch daemon, by default as a crash does. The database continues. */
  killSwitch(signal?: NodeJS.Signals): Promise<void>;
  killDatabase(): Promise<void>;
  startDatabase(): Promise<void>;
  startSwitch(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts ovsdb-server and ovs-vswitchd with a folder of their own, beside those of the machine. The
 * switch sees the interfaces of `namespace`, and the machine's without one. Both end with the test.
 */
export async function startPrivateOvs({
  namespace,
  isDetached = false,
}: { namespace?: string; isDetached?: boolean } = {}): Promise<PrivateOvs> {
  const runFolder = await mkdtemp(join(tmpdir(), "berth-ovs-"));
  const database = join(runFolder, "conf.db");
  const databaseSocket = join(runFolder, "db.sock");
  const folders = ["RUNDIR", "LOGDIR", "DBDIR"].map((name) => `OVS_${name}=${runFolder}`);
  let databaseServer: ChildServer | undefined;
  let switchDaemon: ChildServer | undefined;
  const env = { ...process.env, OVS_RUNDIR: runFolder, OVS_LOGDIR: runFolder };
  const ovs = async (program: string, ...args: string[]) =>
    (await run(program, args, { env, maxBuffer: 64 * 2 ** 20 })).stdout;
  const start = async (program: string, args: string[], inNamespace: string[] = []) => {
    const command = [...folders, ...inNamespace, program, ...args];
    const server = startChildServer("env", command, { isDetached });
    const deadline = { deadlineMs: startDeadlineMs };
    const answers = () => ovs("ovs-appctl", `--target=${program}`, "version").then(() => true);
    await waitUntil(`${program} answers`, answers, deadline).catch(async (error: unknown) => {
      await server.kill();
      throw new Error(server.outputTail(), { cause: error });
    });
    return server;
  };
  const startDatabase = async () => {
    const args = [database, `--remote=punix:${databaseSocket}`, "--pidfile", "-vconsole:warn"];
    databaseServer = await start("ovsdb-server", args);
  };
  const startSwitch = async () => {
    const args = [`unix:${databaseSocket}`, "--pidfile", "-vconsole:warn"];
    const inNamespace = namespace === undefined ? [] : ["ip", "netns", "exec", namespace];
    switchDaemon = await start("ovs-vswitchd", args, inNamespace);
  };
  const close = async () => {
    // In order: the switch removes its interfaces.
    await ovs("ovs-appctl", "--target=ovs-vswitchd", "exit", "--cleanup").catch(() => undefined);
    // SIGCONT does nothing: only wait. A killed switch would leave the interfaces of its bridges.
    await switchDaemon?.kill("SIGCONT").catch(() => switchDaemon?.kill());
    await databaseServer?.kill();
    await rm(runFolder, { recursive: true, force: true });
  };
  try {
    await mkdir(runFolder, { recursive: true });
    await ovs("ovsdb-tool", "create", database, schema);
    await startDatabase();
    await ovs("ovs-vsctl", `--db=unix:${databaseSocket}`, "--no-wait", "init");
    await startSwitch();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    runFolder,
    ovs,
    killSwitch: async (signal = "SIGKILL") => switchDaemon?.kill(signal),
    killDatabase: async () => databaseServer?.kill(),
    startDatabase,
    startSwitch,
    close,
  };
}
