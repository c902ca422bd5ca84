import {
  type DataStream,
  FRAME_PAYLOAD_BYTES_MAX,
  type SessionControl,
  type SessionOpen,
} from "../../contracts/sessions/frames.ts";
import { SessionChannel } from "../../contracts/sessions/session-channel.ts";
import { SocketRefused } from "../../contracts/sessions/socket-refused.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import type { Cli, SessionConsole } from "../cli-context.ts";
import { CliError, problemError, type ProblemDocument } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";

/** After Ctrl-C without a terminal, the program has this long to end. */
const INTERRUPT_MS = 2_000;

/**
 * Runs a session with a container, and resolves with the exit code of its program. The console has
 * its streams. Throws a CliError if the session ends without an exit code.
 */
export async function runSession(
  cli: Cli,
  path: string,
  open: SessionOpen,
  console: SessionConsole,
): Promise<number> {
  const socket = await dial(cli, path);
  const session = new SessionClient(socket, console);
  return await session.run(open, cli.options.signal);
}

class SessionClient {
  readonly #console: SessionConsole;
  readonly #channel: SessionChannel;
  readonly #ended: Promise<number>;
  #finish: (code: number) => void = () => undefined;
  #fail: (error: CliError) => void = () => undefined;
  /** The output in its order. The windows of the channel bound it. */
  #output: Promise<void> = Promise.resolve();

  constructor(socket: SessionSocket, console: SessionConsole) {
    this.#console = console;
    this.#ended = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    this.#ended.catch(() => undefined); // `run` throws it
    this.#channel = new SessionChannel(socket, {
      sends: ["stdin"],
      onData: (stream, bytes) => this.#write(stream, bytes),
      onControl: (control) => this.#take(control),
      onClose: ({ message }) => this.#fail(sessionError(message)),
    });
  }

  async run(open: SessionOpen, signal: AbortSignal): Promise<number> {
    const { tty } = open;
    const console = this.#console;
    const interrupt = (): void => {
      this.#channel.sendControl({ type: "signal", name: "INT" });
      setTimeout(() => this.#finish(exitCodes.interrupted), INTERRUPT_MS).unref();
    };
    const stopResizing = console.onResize(() => {
      const size = console.size();
      if (tty && size) this.#channel.sendControl({ type: "resize", ...size });
    });
    if (tty) console.setRawMode(true);
    signal.addEventListener("abort", interrupt, { once: true });
    try {
      this.#channel.sendControl({ type: "open", ...open });
      if (open.stdin) void this.#sendInput();
      return await this.#ended;
    } finally {
      await this.#output;
      signal.removeEventListener("abort", interrupt);
      stopResizing();
      if (tty) console.setRawMode(false);
      console.close();
      this.#channel.close("the command line ended");
    }
  }

  async #sendInput(): Promise<void> {
    try {
      for await (const piece of this.#console.readInput()) {
        for (let start = 0; start < piece.length; start += FRAME_PAYLOAD_BYTES_MAX)
          await this.#channel.send("stdin", piece.subarray(start, start + FRAME_PAYLOAD_BYTES_MAX));
      }
      this.#channel.sendControl({ type: "eof", stream: "stdin" });
    } catch {
      // The session has ended, or the input: the outcome of the session counts.
    }
  }

  #write(stream: DataStream, bytes: Uint8Array): void {
    if (stream === "stdin") return;
    this.#output = this.#output
      .then(() => this.#console.write(stream, bytes))
      .then(() => this.#channel.consume(stream, bytes.length));
  }

  #take(control: SessionControl): void {
    if (control.type === "exit") this.#finish(control.code);
    else if (control.type === "error") this.#fail(sessionError(control.text));
  }
}

/** Rejects with the problem of the API as a CliError. */
async function dial(cli: Cli, path: string): Promise<SessionSocket> {
  const { apiUrl, token, tenant } = await cli.target();
  const headers: Record<string, string> = { "User-Agent": `berth/${cli.options.version}` };
  if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;
  if (tenant !== undefined) headers["Berth-Tenant"] = tenant;
  const { dialSocket, signal } = cli.options;
  try {
    return await dialSocket(apiUrl.replace(/\/+$/, "") + path, { headers, signal });
  } catch (error) {
    if (signal.aborted)
      throw new CliError("Interrupted.", { exitCode: exitCodes.interrupted, cause: error });
    if (error instanceof SocketRefused) throw problemError(readProblem(error));
    const detail = error instanceof Error ? error.message : String(error);
    throw new CliError(`Cannot open a session at ${apiUrl}: ${detail}.`, {
      exitCode: exitCodes.unavailable,
      hints: ["A proxy before the API must pass on WebSockets: see docs/sessions.md."],
      cause: error,
    });
  }
}

function readProblem({ status, body }: SocketRefused): ProblemDocument {
  try {
    return { ...(JSON.parse(body) as Partial<ProblemDocument>), status };
  } catch {
    const title = `The API, or a proxy before it, refused the session with status ${status}.`;
    return { status, title };
  }
}

function sessionError(text: string): CliError {
  return new CliError(text, { exitCode: exitCodes.sessionFailed });
}
