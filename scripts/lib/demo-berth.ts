import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { noteTraces } from "../../test/support/network/machine-traces.ts";

const READY_DEADLINE_MS = 180_000;
const STOP_DEADLINE_MS = 20_000;
const REQUEST_TIMEOUT_MS = 30_000;
const mainFile = fileURLToPath(new URL("../../src/main/all-in-one.ts", import.meta.url));

interface ReadyLine {
  apiUrl: string;
  adminTokenFile: string;
  startMs: Record<string, number>;
}

/** A Berth for the demo: one process, a free port, and all data in a temporary folder. */
export class DemoBerth {
  readonly dataDir: string;
  apiUrl = "";
  adminToken = "";
  /** Milliseconds of the phases of Berth's start. */
  startMs: Record<string, number> = {};
  readonly #logFile: string;
  readonly #log: WriteStream;
  #process: ChildProcess | undefined;

  private constructor(dataDir: string, logFile: string) {
    this.dataDir = dataDir;
    this.#logFile = logFile;
    this.#log = createWriteStream(logFile, { flags: "a" });
  }

  static async create(logFile: string): Promise<DemoBerth> {
    // A short path: the private Redis may listen on a socket in it, and socket paths have at most
    // 107 characters.
    const folder = await mkdtemp(path.join(tmpdir(), "berth-demo-"));
    noteTraces({ folder });
    return new DemoBerth(folder, logFile);
  }

  /**
   * Starts Berth and resolves when it serves. Berth gets SIGTERM when this process ends for any
   * reason.
   * @param settings of the agent, for the network driver
   */
  async start(settings: Readonly<Record<string, string>>): Promise<void> {
    const node = [process.execPath, "--enable-source-maps", "--import", "tsx", mainFile];
    const child = spawn("setpriv", ["--pdeathsig", "TERM", "--", ...node], {
      stdio: ["ignore", "pipe", "pipe"],
      // A process group of its own: Ctrl-C reaches only the demo, which then stops Berth in order.
      detached: true,
      env: {
        ...withoutBerth(process.env),
        BERTH_DATA_DIR: this.dataDir,
        BERTH_PORT: "0",
        BERTH_READY_JSON: "true",
        ...settings,
      },
    });
    this.#process = child;
    child.stderr.pipe(this.#log, { end: false });
    const ready = await this.#readReadyLine(child);
    this.apiUrl = ready.apiUrl;
    this.startMs = ready.startMs;
    this.adminToken = (await readFile(ready.adminTokenFile, "utf8")).trim();
  }

  async #readReadyLine(child: ChildProcess): Promise<ReadyLine> {
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`Berth was not ready within ${READY_DEADLINE_MS / 1000} s`)),
        READY_DEADLINE_MS,
      );
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`Berth ended with exit code ${code}`)));
      if (!child.stdout) throw new Error("the child's output is piped");
      createInterface({ input: child.stdout }).on("line", (line) => {
        this.#log.write(`${line}\n`);
        if (!line.includes('"ready":true')) return;
        clearTimeout(timer);
        resolve(JSON.parse(line) as ReadyLine);
      });
    });
  }

  /** Sends one request as the admin of the tenant "default". Throws with the problem's detail. */
  async request<T>(method: string, pathname: string, body?: unknown): Promise<T> {
    return await request<T>(this.apiUrl + pathname, method, this.adminToken, body);
  }

  /** Time of the last line of Berth's log that contains all these texts; undefined without one. */
  async timeOfLogLine(...texts: readonly string[]): Promise<number | undefined> {
    const lines = (await readFile(this.#logFile, "utf8")).split("\n");
    const line = lines.findLast((candidate) => texts.every((text) => candidate.includes(text)));
    if (line === undefined) return undefined;
    return Date.parse((JSON.parse(line) as { time: string }).time);
  }

  /** Stops Berth and waits for its exit; its containers stay. */
  async stop(): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
    await exited;
    clearTimeout(timer);
  }

  async removeData(): Promise<void> {
    this.#log.end();
    await rm(this.dataDir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Sends and receives JSON. Throws with the problem's detail after an error status. */
export async function request<T>(
  url: string,
  method: string,
  token: string,
  body?: unknown,
): Promise<T> {
  const response = await fetch(url, {
    method,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok)
    throw new Error(`${method} ${url} answered ${response.status}: ${describeProblem(text)}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

function describeProblem(text: string): string {
  try {
    const { detail, requestId } = JSON.parse(text) as { detail?: string; requestId?: string };
    return `${detail ?? text} (request ${requestId ?? "unknown"})`;
  } catch {
    return text;
  }
}

/** Removes settings of another Berth or database, so that the demo is the same everywhere. */
function withoutBerth(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => !/^(BERTH_.*|DATABASE_URL.*|REDIS_URL.*)$/.test(name)),
  );
}
