import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import Docker from "dockerode";
import type { BerthSet } from "../../src/contracts/api/sets.ts";

const run = promisify(execFile);
const busybox = "/bin/busybox";
export const WEB_PORT = 8080;
const PAGE_TIMEOUT_SECONDS = "0.4";
const REQUEST_PAUSE_SECONDS = "0.05";
/** Long for a busy machine. A connection to a deleted set fails nevertheless. */
const REQUEST_TIMEOUT_SECONDS = 20;

/**
 * The view from inside of the sets' network. The machine has no route to it, so programs of the
 * machine enter the network namespaces of sets.
 */
export class NetworkView {
  readonly #docker = new Docker();
  /** The process of each set's infra container, by the id of the set. */
  readonly #pids = new Map<string, number>();

  /**
   * Reads the page of a set from another set, or from itself while no other one runs. Undefined
   * without an answer.
   */
  async readPage({ id, address }: Pick<BerthSet, "id" | "address">): Promise<string | undefined> {
    if ((await this.#findPid(id)) === undefined) return undefined;
    const from = [...this.#pids.keys()].find((setId) => setId !== id) ?? id;
    return address === null ? undefined : this.readPageFrom(from, address);
  }

  /** Reads a page from the network namespace of a set. */
  async readPageFrom(setId: string, address: string): Promise<string | undefined> {
    const pid = await this.#findPid(setId);
    if (pid === undefined) return undefined;
    const script = `exec 3<>/dev/tcp/${address}/${WEB_PORT}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
    const command = ["timeout", PAGE_TIMEOUT_SECONDS, "bash", "-c", script];
    const page = await run("nsenter", [...enter(pid), ...command]).catch(() => undefined);
    return page?.stdout.split("\r\n\r\n").at(1)?.trim();
  }

  /** Requests the page again and again from the network namespace of a set. */
  async startRequests(setId: string, address: string): Promise<Requests> {
    const pid = await this.#findPid(setId);
    if (pid === undefined) throw new Error(`${setId} does not run`);
    return new Requests(pid, address);
  }

  /**
   * Forwards connections to a free port of the machine to the page at this address. `setId` returns
   * a set that runs, in whose network namespace the connection begins.
   */
  async forward(setId: () => string | undefined, address: string): Promise<Server> {
    const server = createServer((client) => {
      const pid = this.#pids.get(setId() ?? "");
      if (pid === undefined) return void client.destroy();
      const command = [...enter(pid), busybox, "nc", address, String(WEB_PORT)];
      const forwarded = spawn("nsenter", command, { stdio: ["pipe", "pipe", "ignore"] });
      // Either end may close first.
      for (const stream of [client, forwarded.stdin]) stream.on("error", () => client.destroy());
      client.on("close", () => forwarded.kill());
      client.pipe(forwarded.stdin);
      forwarded.stdout.pipe(client);
      return undefined;
    });
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    server.unref();
    return server;
  }

  /** The sets that it has entered and that still run, the oldest first. */
  listSets(): string[] {
    const entered = [...this.#pids].filter(([, pid]) => existsSync(`/proc/${pid}/ns/net`));
    return entered.map(([setId]) => setId).sort();
  }

  /** For a set that is deleted. */
  forget(setId: string): void {
    this.#pids.delete(setId);
  }

  async #findPid(setId: string): Promise<number | undefined> {
    const known = this.#pids.get(setId);
    if (known !== undefined) return known;
    const infra = this.#docker.getContainer(`berth-${setId}-infra`);
    const pid = await infra.inspect().then(
      ({ State }) => State.Pid,
      () => 0, // it is not created yet
    );
    if (pid === 0) return undefined;
    this.#pids.set(setId, pid);
    return pid;
  }
}

/** Requests of a client in the network, each on a connection of its own. */
export class Requests {
  readonly #stop: () => Promise<void>;
  #failed = 0;
  readonly #answers = new Map<string, number>();

  constructor(pid: number, address: string) {
    // The `wget` of a static BusyBox crashes where it looks up names.
    const send = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | ${busybox} nc -w ${REQUEST_TIMEOUT_SECONDS} ${address} ${WEB_PORT}`;
    const once = `page=$(${send} | tail -n 1); echo "\${page:-failed}"`;
    const script = `while :; do ${once}; ${busybox} sleep ${REQUEST_PAUSE_SECONDS}; done`;
    const command = [
      "--pdeathsig",
      "KILL",
      "--",
      "nsenter",
      ...enter(pid),
      "/bin/sh",
      "-c",
      script,
    ];
    const client = spawn("setpriv", command, { stdio: ["ignore", "pipe", "ignore"] });
    const ended = new Promise<void>((resolve) => client.once("close", () => resolve()));
    createInterface({ input: client.stdout }).on("line", (line) => {
      if (line === "failed") this.#failed++;
      else this.#answers.set(line, (this.#answers.get(line) ?? 0) + 1);
    });
    this.#stop = async () => {
      client.kill("SIGKILL");
      await ended;
    };
  }

  /** How many requests failed, and how many each set has answered, since the last call. */
  take(): { requests: number; failed: number; answers: ReadonlyMap<string, number> } {
    const answers = new Map(this.#answers);
    const failed = this.#failed;
    this.#answers.clear();
    this.#failed = 0;
    const requests = [...answers.values()].reduce((sum, count) => sum + count, failed);
    return { requests, failed, answers };
  }

  async stop(): Promise<void> {
    await this.#stop();
  }
}

function enter(pid: number): string[] {
  return [`--net=/proc/${pid}/ns/net`];
}
