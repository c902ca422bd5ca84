import { execFile, spawn } from "node:child_process";
import { StringDecoder } from "node:string_decoder";
import { onAbort } from "../lib/async/abort.ts";

/** A program failed to start, was killed at its deadline, or exited with a status other than 0. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly argv0: string;
  /** Undefined if the program never started or was killed. */
  readonly exitCode: number | undefined;
  readonly stderrTail: string;

  constructor(
    argv0: string,
    result: { exitCode: number | undefined; stderrTail: string; cause: unknown },
  ) {
    super(`${argv0}: ${result.stderrTail || describe(result)}`, { cause: result.cause });
    this.argv0 = argv0;
    this.exitCode = result.exitCode;
    this.stderrTail = result.stderrTail;
  }
}

const outputBytesMax = 16 * 2 ** 20;
const stderrTailChars = 2_000;
const commandEnv = { LC_ALL: "C", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
/** A killed program exits within this time, or hangs in the kernel and cannot be waited for. */
const killedWithinMs = 2_000;

export interface CommandOptions {
  timeoutMs: number;
  /**
   * Kills the program when aborted. Without a signal, the program runs to its end or its deadline.
   */
  signal?: AbortSignal;
  killSignal?: "SIGKILL" | "SIGTERM";
  /** Exit codes besides 0 with which the output is usable. */
  exitCodesAccepted?: readonly number[];
  /** Text for the standard input, which is otherwise open and empty. */
  input?: string;
  /** Variables besides the locale and the path. */
  env?: Readonly<Record<string, string>>;
}

type RunCommand = (
  path: string,
  args: readonly string[],
  options: CommandOptions,
) => Promise<string>;

let runElsewhere: RunCommand | undefined;

/** Lets `run` start all programs of this process from now on; undefined ends that. */
export function setCommandRunner(run: RunCommand | undefined): void {
  runElsewhere = run;
}

/**
 * Runs a program without a shell and resolves with its standard output. The output is at most 16
 * MiB, the locale is C, and the environment has only `env` besides. `path` is absolute.
 *
 * Rejects with CommandError. If the program cannot be killed, it still rejects shortly after the
 * deadline or the abort. This and `startCommand` are the agent's only ways to run programs.
 */
export async function runCommand(
  path: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<string> {
  return (runElsewhere ?? runHere)(path, args, options);
}

async function runHere(
  path: string,
  args: readonly string[],
  {
    timeoutMs,
    signal,
    killSignal = "SIGKILL",
    exitCodesAccepted = [],
    input,
    env = {},
  }: CommandOptions,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error & { code?: unknown }, stderr: string) => {
      const exitCode = typeof cause.code === "number" ? cause.code : undefined;
      const stderrTail = stderr.trim().slice(-stderrTailChars);
      reject(new CommandError(path, { exitCode, stderrTail, cause }));
    };
    if (signal?.aborted) return fail(new Error("was aborted"), "");
    let killedFor: Error | undefined;
    let lastTimer: NodeJS.Timeout | undefined;
    const options = {
      maxBuffer: outputBytesMax,
      env: { ...env, ...commandEnv },
    };
    const child = execFile(path, args, options, (error, stdout, stderr) => {
      clearTimeout(deadline);
      clearTimeout(lastTimer);
      unlisten();
      if (killedFor) fail(killedFor, stderr);
      else if (error && !exitCodesAccepted.includes(Number(error.code))) fail(error, stderr);
      else resolve(stdout);
    });
    // A program that ends before it has read all reports the reason, not this pipe.
    child.stdin?.on("error", () => undefined);
    if (input !== undefined) child.stdin?.end(input);
    const kill = (cause: Error) => {
      killedFor ??= cause;
      child.kill(killSignal);
      lastTimer ??= setTimeout(() => {
        child.unref();
        fail(cause, "");
      }, killedWithinMs);
    };
    const deadline = setTimeout(
      () => kill(new Error(`did not end within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const unlisten = onAbort(signal, () => kill(new Error("was aborted")));
    return undefined;
  });
}

export interface LinesOptions extends Pick<CommandOptions, "timeoutMs" | "signal" | "env"> {
  /** A longer line ends the program. */
  lineCharsMax: number;
  onLine: (line: string) => void;
}

/**
 * Runs a program like `runCommand`, in this process, and passes on each line of its output. So it
 * never has more than one line in memory, however long the output is. An error of `onLine` ends the
 * program, and is the cause of the rejection.
 */
export async function runForLines(
  path: string,
  args: readonly string[],
  { timeoutMs, signal, env = {}, lineCharsMax, onLine }: LinesOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let rest = "";
    let cause: Error | undefined;
    const end = (exitCode: number | undefined, stderrTail: string): void => {
      clearTimeout(deadline);
      unlisten();
      if (exitCode === 0 && !cause) resolve();
      else reject(new CommandError(path, { exitCode, stderrTail, cause }));
    };
    const kill = (reason: Error): void => {
      cause ??= reason;
      command.kill();
      setTimeout(() => end(undefined, ""), killedWithinMs).unref();
    };
    const take = (text: string): void => {
      const lines = `${rest}${text}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
      if (rest.length > lineCharsMax) throw new Error("a line of the output is too long");
    };
    const decoder = new StringDecoder();
    const command = startCommand(
      path,
      args,
      {
        onOutput: (chunk) => {
          if (cause) return;
          try {
            take(decoder.write(Buffer.from(chunk)));
          } catch (error) {
            kill(error instanceof Error ? error : new Error(String(error)));
          }
        },
        onEnd: ({ exitCode, stderrTail }) => {
          if (!cause && rest !== "") onLine(rest);
          end(exitCode, stderrTail);
        },
      },
      env,
    );
    const deadline = setTimeout(
      () => kill(new Error(`did not end within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const unlisten = onAbort(signal, () => kill(new Error("was aborted")));
    return undefined;
  });
}

/** A running program, and what it prints while it runs. */
export interface RunningCommand {
  /** Writes to the standard input, which stays open. */
  write(text: string): void;
  /** Ends the program immediately. */
  kill(): void;
}

export interface CommandListener {
  onOutput: (chunk: Uint8Array) => void;
  /** Called once, after the last output. The exit code is undefined if the program was killed. */
  onEnd: (result: { exitCode: number | undefined; stderrTail: string }) => void;
}

/**
 * Starts a program without a shell, for a dialog. The caller kills it in time. The environment is
 * that of `runCommand` with the same `env`.
 */
export function startCommand(
  path: string,
  args: readonly string[],
  { onOutput, onEnd }: CommandListener,
  env: Readonly<Record<string, string>> = {},
): RunningCommand {
  const child = spawn(path, args, { env: { ...env, ...commandEnv }, stdio: "pipe" });
  let stderrTail = "";
  let failure: string | undefined;
  child.stdin.on("error", () => undefined);
  child.stdout.on("data", onOutput);
  child.stderr.on("data", (chunk: Buffer) => {
    stderrTail = (stderrTail + chunk.toString()).slice(-stderrTailChars);
  });
  child.on("error", (error) => {
    failure = error.message;
  });
  child.on("close", (exitCode) =>
    onEnd({ exitCode: exitCode ?? undefined, stderrTail: failure ?? stderrTail.trim() }),
  );
  return {
    write: (text) => child.stdin.write(text),
    kill: () => child.kill("SIGKILL"),
  };
}

function describe({ exitCode, cause }: { exitCode: number | undefined; cause: unknown }): string {
  if (exitCode !== undefined) return `exited with ${exitCode}`;
  return cause instanceof Error ? cause.message : "was killed";
}
