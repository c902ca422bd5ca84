import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { CommandError, type CommandOptions, setCommandRunner } from "../../host-adapters/exec.ts";
import type { Log } from "../../lib/log.ts";

/** A program to run, or the id of an earlier request whose program is to be killed. */
export type StarterRequest =
  | {
      requestId: number;
      path: string;
      args: readonly string[];
      options: Omit<CommandOptions, "signal">;
    }
  | { requestId: number; isAborted: true };

export type StarterMessage =
  | { isReady: true }
  | { requestId: number; output: string }
  | { requestId: number; failure: { exitCode?: number; stderrTail: string; cause: string } };

interface Waiting {
  argv0: string;
  resolve: (output: string) => void;
  reject: (error: CommandError) => void;
}

/** Requests that the starter has not answered. */
class OpenRequests {
  readonly #requests = new Map<number, Waiting>();

  has(requestId: number): boolean {
    return this.#requests.has(requestId);
  }

  add(requestId: number, waiting: Waiting): void {
    this.#requests.set(requestId, waiting);
  }

  /** Ignores the answer to a request that was rejected. */
  settle(message: Exclude<StarterMessage, { isReady: true }>): void {
    const request = this.#take(message.requestId);
    if (!request) return;
    if ("output" in message) return request.resolve(message.output);
    const { exitCode, stderrTail, cause } = message.failure;
    const result = { exitCode, stderrTail, cause: new Error(cause) };
    request.reject(new CommandError(request.argv0, result));
  }

  reject(requestId: number, cause: Error): void {
    const request = this.#take(requestId);
    const result = { exitCode: undefined, stderrTail: "", cause };
    request?.reject(new CommandError(request.argv0, result));
  }

  rejectAll(cause: Error): void {
    for (const requestId of this.#requests.keys()) this.reject(requestId, cause);
  }

  #take(requestId: number): Waiting | undefined {
    const request = this.#requests.get(requestId);
    this.#requests.delete(requestId);
    return request;
  }
}

/**
 * The starter answers within 2 s of a program's deadline or abort, even if it cannot kill the
 * program. One that takes longer is stopped or hangs.
 */
const graceMs = 3_000;

const mainFile = fileURLToPath(
  new URL(`../program-starter${path.extname(import.meta.url)}`, import.meta.url),
);

/**
 * Starts a small process that runs the programs of this one. A start of a program copies the page
 * tables of its parent, and blocks it meanwhile. With an embedded database that takes 10 to 50 ms,
 * and a volume needs six programs. Until the starter is ready, and if it ends, programs are started
 * by this process. A starter that does not answer in time is killed.
 */
export function startProgramStarter(
  log: Log,
  { execArgv = process.execArgv }: { execArgv?: readonly string[] } = {},
): { stop: () => Promise<void> } {
  const child = spawn(process.execPath, [...execArgv, mainFile], {
    detached: true, // Ctrl-C must not end it before its user
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    env: {},
  });
  const requests = new OpenRequests();
  let lastRequestId = 0;
  let isStopping = false;
  const send = (request: StarterRequest) =>
    child.send(request, (error) => {
      if (error) requests.reject(request.requestId, error);
    });
  const killLate = (requestId: number) => {
    if (!requests.has(requestId)) return;
    setCommandRunner(undefined);
    requests.reject(requestId, new Error("the program starter did not answer in time"));
    child.kill("SIGKILL");
  };
  const run = (argv0: string, args: readonly string[], options: CommandOptions) =>
    new Promise<string>((resolve, reject) => {
      const { signal, ...rest } = options;
      const requestId = ++lastRequestId;
      // If this process was stopped, it first reads the answers that have arrived since.
      const onLate = () => setImmediate(killLate, requestId);
      let timer = setTimeout(onLate, options.timeoutMs + graceMs);
      const abort = () => {
        clearTimeout(timer);
        timer = setTimeout(onLate, graceMs);
        send({ requestId, isAborted: true });
      };
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
      };
      requests.add(requestId, {
        argv0,
        resolve: (output) => (end(), resolve(output)),
        reject: (error) => (end(), reject(error)),
      });
      send({ requestId, path: argv0, args, options: rest });
      if (signal?.aborted) abort();
      signal?.addEventListener("abort", abort, { once: true });
    });
  child.on("message", (message: StarterMessage) => {
    if ("isReady" in message) return setCommandRunner(run);
    return requests.settle(message);
  });
  const exited = new Promise<void>((resolve) => {
    let hasEnded = false;
    const noteEnd = (detail: object) => {
      setCommandRunner(undefined);
      requests.rejectAll(new Error("the program starter ended"));
      if (!isStopping && !hasEnded)
        log.warn(detail, "the program starter ended; this process now starts programs itself");
      hasEnded = true;
      resolve();
    };
    child.once("exit", (code, signal) => noteEnd({ code, signal }));
    // Any number of errors may follow the end, and one without a listener ends this process.
    child.on("error", (error) => noteEnd({ err: error }));
  });
  return {
    stop: async () => {
      isStopping = true;
      setCommandRunner(undefined);
      if (child.connected) child.disconnect();
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await exited;
      clearTimeout(timer);
    },
  };
}
