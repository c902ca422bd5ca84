import { execFile } from "node:child_process";

/** A program that could not be started, was killed at its deadline, or did not exit with 0. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly argv0: string;
  /** Undefined when it was never started or was killed. */
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

/**
 * Runs a program without a shell and resolves with its standard output: at most 16 MiB, in the C locale, with no
 * other environment. `path` is absolute. Rejects with CommandError. The one place of the agent that starts programs.
 */
export async function runCommand(
  path: string,
  args: readonly string[],
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: timeoutMs,
      killSignal: "SIGKILL" as const,
      maxBuffer: outputBytesMax,
      env: { LC_ALL: "C", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
      signal,
    };
    execFile(path, args, options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const exitCode = typeof error.code === "number" ? error.code : undefined;
      const stderrTail = stderr.trim().slice(-stderrTailChars);
      return reject(new CommandError(path, { exitCode, stderrTail, cause: error }));
    });
  });
}

function describe({ exitCode, cause }: { exitCode: number | undefined; cause: unknown }): string {
  if (exitCode !== undefined) return `exited with ${exitCode}`;
  return cause instanceof Error ? cause.message : "was killed";
}
