import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { median } from "./percentile.ts";

const program = fileURLToPath(new URL("network-load.py", import.meta.url));
const python = "/usr/bin/python3";
const startDeadlineMs = 60_000;
/** Longer than each measurement with its own deadlines: see network-load.py. */
const loadDeadlineMs = 600_000;

/** An end of a path: where programs run, and its address. */
export interface PathEnd {
  /** The arguments of `nsenter`. */
  enter: readonly string[];
  address: string;
}

/** Two ends. The server of network-load.py runs at `to`. */
export interface Path {
  from: PathEnd;
  to: PathEnd;
}

export interface PathFigures {
  megabytesPerSecond: number;
  latencyUs: number;
}

export interface ConnectionFigures {
  perSecond: number;
  failed: number;
  /** The first ones. */
  errors: string[];
}

/** Starts the server at an end, and returns a function that ends it. */
export async function serveLoad({ enter }: Pick<PathEnd, "enter">): Promise<() => void> {
  const command = ["--pdeathsig", "KILL", "--", "nsenter", ...enter, python, program, "serve"];
  const server = spawn("setpriv", command, { stdio: ["ignore", "pipe", "inherit"] });
  const failed = once(server, "exit").then(() => {
    throw new Error("the server of the load ended");
  });
  const deadline = AbortSignal.timeout(startDeadlineMs);
  await Promise.race([once(server.stdout, "data", { signal: deadline }), failed]);
  return () => void server.kill("SIGKILL");
}

/**
 * Measures the paths in turns, so that other load on the machine meets all of them. Returns the
 * medians, in the order of the paths.
 */
export async function measurePaths(
  paths: readonly Path[],
  { rounds, seconds }: { rounds: number; seconds: number },
): Promise<PathFigures[]> {
  const measured = paths.map(() => ({ megabytes: [] as number[], microseconds: [] as number[] }));
  for (let round = 0; round < rounds; round++)
    for (const [place, path] of paths.entries()) {
      const { megabytesPerSecond } = await measureThroughput(path, seconds);
      const { p50Us } = await measureLatency(path, seconds / 2);
      measured[place]?.megabytes.push(megabytesPerSecond);
      measured[place]?.microseconds.push(p50Us);
    }
  return measured.map(({ megabytes, microseconds }) => ({
    megabytesPerSecond: median(megabytes),
    latencyUs: median(microseconds),
  }));
}

function measureThroughput({ from, to }: Path, seconds: number) {
  return runLoad<{ megabytesPerSecond: number }>(from, ["throughput", to.address, String(seconds)]);
}

function measureLatency({ from, to }: Path, seconds: number) {
  return runLoad<{ p50Us: number; p99Us: number }>(from, ["latency", to.address, String(seconds)]);
}

/** Opens `count` connections to these addresses in turns. Each sends and receives a byte. */
export function openConnections(
  from: PathEnd,
  addresses: readonly string[],
  count: number,
): Promise<ConnectionFigures> {
  return runLoad<ConnectionFigures>(from, ["connections", addresses.join(), String(count)]);
}

async function runLoad<T>({ enter }: PathEnd, args: readonly string[]): Promise<T> {
  const command = [...enter, python, program, ...args];
  const { stdout } = await promisify(execFile)("nsenter", command, { timeout: loadDeadlineMs });
  return JSON.parse(stdout) as T;
}

export interface DnsAnswer {
  /** On the clock of the machine. */
  atMs: number;
  addresses: string[];
}

/**
 * Asks a DNS server for the IPv4 addresses of a name every five milliseconds, until the returned
 * function is called. Calls `onAnswer` for each answer that differs from the previous one.
 */
export function watchDns(
  { enter }: Pick<PathEnd, "enter">,
  { server, name }: { server: string; name: string },
  onAnswer: (answer: DnsAnswer) => void,
): () => void {
  const args = ["nsenter", ...enter, python, program, "watch-dns", server, name];
  const watcher = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  createInterface({ input: watcher.stdout }).on("line", (line) =>
    onAnswer(JSON.parse(line) as DnsAnswer),
  );
  return () => void watcher.kill("SIGKILL");
}
