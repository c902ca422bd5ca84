import type { Command } from "commander";
import type { DialSocket } from "../contracts/sessions/session-socket.ts";
import { ApiClient } from "./api/api-client.ts";
import type { FetchFunction } from "./api/http-fetch.ts";
import { resolveTarget, type Target } from "./api/resolve-target.ts";
import type { CliSettings } from "./cli-settings.ts";
import type { Terminal } from "./output/terminal.ts";

/** Processes that commands start. src/main maps each name to its program. */
export type ProcessName = "all-in-one" | "host-agent" | "simulated-hosts";
export interface ChildProcess {
  /** Exit code; 128 + signal when killed. */
  ended: Promise<number>;
  stop: () => void;
}
export type StartProcess = (
  name: ProcessName,
  args: readonly string[],
  options: { env?: Record<string, string>; onLine?: (line: string) => void },
) => ChildProcess;

/** The streams of the user for a session with a container. */
export interface SessionConsole {
  readonly isInputTerminal: boolean;
  /** Bytes of standard input, unchanged. It reads only while its caller does. */
  readInput(): AsyncIterable<Uint8Array>;
  /** Resolves when the stream has taken the bytes. */
  write(stream: "stdout" | "stderr", bytes: Uint8Array): Promise<void>;
  /** In raw mode, each key is a byte of input. So Ctrl-C reaches the container. */
  setRawMode(isRaw: boolean): void;
  /** The size of the terminal. Undefined without one. */
  size(): { cols: number; rows: number } | undefined;
  /** Calls back at each change of the size, until the returned function is called. */
  onResize(callback: () => void): () => void;
  /** Stops reading, so that the process can end. */
  close(): void;
}

export interface CliOptions {
  argv: readonly string[];
  /** The words that start `berth` again: see command-name.ts. */
  commandName: string;
  settings: CliSettings;
  terminal: Terminal;
  stdin: AsyncIterable<Uint8Array | string>;
  version: string;
  fetch: FetchFunction;
  dialSocket: DialSocket;
  openConsole: () => SessionConsole;
  /** The terminal type of the user, for programs in a container. */
  term: string | undefined;
  startProcess: StartProcess;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  now: () => number;
}

export const outputFormats = ["table", "wide", "json", "yaml"] as const;
export type OutputFormat = (typeof outputFormats)[number];

/** Options that every command takes. */
interface GlobalOptions {
  output: OutputFormat;
  apiUrl?: string;
  tokenFile?: string;
  tenant?: string;
  context?: string;
}

/** The context of a command: its options, its terminal, and a client of the selected API. */
export class Cli {
  readonly options: CliOptions;
  readonly terminal: Terminal;
  readonly #program: Command;
  /** The exit code of a successful command, such as that of a program in a container. */
  exitCode: number | undefined;
  #target: Promise<Target> | undefined;
  #serialize = (document: unknown): string => JSON.stringify(document, null, 2);

  constructor(options: CliOptions, program: Command) {
    this.options = options;
    this.terminal = options.terminal;
    this.#program = program;
  }

  get now(): number {
    return this.options.now();
  }

  get format(): OutputFormat {
    return this.#program.opts<GlobalOptions>().output;
  }

  /** True when a program reads stdout: it then carries documents only. */
  get isForPrograms(): boolean {
    return this.format === "json" || this.format === "yaml";
  }

  /** Loads the YAML package if the command needs it. Runs before each command. */
  async prepareOutput(): Promise<void> {
    if (this.format === "yaml") this.#serialize = (await import("yaml")).stringify;
  }

  /** Serializes a document in the format of --output: YAML, or otherwise JSON. */
  serialize(document: unknown): string {
    return this.#serialize(document);
  }

  /** Resolves the address, the credential and the tenant once. */
  async target(): Promise<Target> {
    this.#target ??= resolveTarget(this.#program.opts<GlobalOptions>(), this.options.settings);
    return await this.#target;
  }

  async api(): Promise<ApiClient> {
    const { apiUrl, token, tenant } = await this.target();
    return new ApiClient({
      apiUrl,
      token,
      tenant,
      userAgent: `berth/${this.options.version}`,
      fetch: this.options.fetch,
      signal: this.options.signal,
    });
  }
}
