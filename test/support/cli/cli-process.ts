import { type ChildProcess, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
const program = fileURLToPath(new URL("../../../src/main/cli.ts", import.meta.url));

export interface CliProcess {
  child: ChildProcess;
  /** Standard output so far. */
  output(): string;
  errorOutput(): string;
  /** Writes to standard input. */
  type(text: string): void;
  endInput(): void;
  /** The exit code; null after a fatal signal. */
  ended: Promise<number | null>;
}

/**
 * Starts `berth` as a user does. With `hasTerminal`, all of its streams are one terminal, which
 * `script` provides.
 */
export function startCli(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  { hasTerminal = false } = {},
): CliProcess {
  const command = [process.execPath, "--import", tsx, program, ...args];
  const quoted = command.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
  const terminal = ["script", "-qefc", `stty cols 91 rows 33; exec ${quoted}`, "/dev/null"];
  const [first = "", ...rest] = hasTerminal ? terminal : command;
  const child = spawn(first, rest, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], HOME: "/nonexistent", TERM: "xterm", ...env },
  });
  const texts = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => void (texts.stdout += chunk.toString("latin1")));
  child.stderr.on("data", (chunk: Buffer) => void (texts.stderr += chunk.toString("latin1")));
  return {
    child,
    output: () => texts.stdout,
    errorOutput: () => texts.stderr,
    type: (text) => void child.stdin.write(text),
    endInput: () => void child.stdin.end(),
    ended: new Promise((resolve) => child.once("close", (code) => resolve(code))),
  };
}
