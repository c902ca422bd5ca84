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

const mainFile = fileURLToPath(
  new URL(`../program-starter${path.extname(import.meta.url)}`, import.meta.url),
);

/**
 * Starts a small process that runs the programs of this one. A start of a program copies the page
 * tables of its parent, and blocks it meanwhile. With an embedded database that takes 10 to 50 ms,
 * and a volume needs six programs. Until the starter is ready, and if it ends, programs are started
 * by this process.
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
  const waiting = new Map<number, Waiting>();
  let lastRequestId = 0;
  let isStopping = false;
  const run = (argv0: string, args: readonly string[], options: CommandOptions) =>
    new Promise<string>((resolve, reject) => {
      const { signal, ...rest } = options;
      const requestId = ++lastRequestId;
      const abort = () => child.send({ requestId, isAborted: true } satisfies StarterRequest);
      const end = () => signal?.removeEventListener("abort", abort);
      waiting.set(requestId, {
        argv0,
        resolve: (output) => (end(), resolve(output)),
        reject: (error) => (end(), reject(error)),
      });
      child.send({ requestId, path: argv0, args, options: rest } satisfies StarterRequest);
      if (signal?.aborted) abort();
      signal?.addEventListener("abort", abort, { once: true });
    });
  child.on("message", (message: StarterMessage) => {
    if ("isReady" in message) return setCommandRunner(run);
    const request = waiting.get(message.requestId);
    waiting.delete(message.requestId);
    if (!request) return undefined;
    if ("output" in message) return request.resolve(message.output);
    const { exitCode, stderrTail, cause } = message.failure;
    return request.reject(
      new CommandError(request.argv0, { exitCode, stderrTail, cause: new Error(cause) }),
    );
  });
  const exited = new Promise<void>((resolve) => {
    const noteEnd = (detail: object) => {
      setCommandRunner(undefined);
      for (const { argv0, reject } of waiting.values()) {
        const cause = new Error("the program starter ended");
        reject(new CommandError(argv0, { exitCode: undefined, stderrTail: "", cause }));
      }
      waiting.clear();
      if (!isStopping)
        log.warn(detail, "the program starter ended; this process now starts programs itself");
      resolve();
    };
    child.once("exit", (code, signal) => noteEnd({ code, signal }));
    child.once("error", (error) => noteEnd({ err: error }));
  });
  return {
    stop: async () => {
      isStopping = true;
      setCommandRunner(undefined);
      if (child.connected) child.disconnect();
      await exited;
    },
  };
}
