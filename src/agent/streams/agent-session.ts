import { AgentError } from "../base/agent-error.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { SessionRequest } from "../../contracts/agent-protocol/session-request.ts";
import type { SessionControl, SessionOpen } from "../../contracts/sessions/frames.ts";
import { SessionChannel } from "../../contracts/sessions/session-channel.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import { onAbort, runAbortable } from "../../lib/async/abort.ts";
import { truncate } from "../../lib/text/truncate.ts";
import type { SessionPort, SessionProcess } from "../ports/session-port.ts";

/** The caller's first frame comes with the connection. */
const OPEN_TIMEOUT_MS = 15_000;
/** Twice the time between two pings of the API, and some more. */
const SILENCE_MS_MAX = 60_000;
/** Signals that wait. Docker answers each in milliseconds, so a caller sends more only by fault. */
const SIGNALS_WAITING_MAX = 8;

export interface AgentSessionOptions {
  request: SessionRequest;
  port: SessionPort;
  clock: Clock;
  /** Aborts when the agent stops. */
  signal: AbortSignal;
}

/**
 * Serves one session over its connection to the API. Resolves when the program has ended or the
 * caller has disconnected, and nothing of the session is left on the host. Never rejects.
 */
export async function serveSession(
  socket: SessionSocket,
  options: AgentSessionOptions,
): Promise<void> {
  const session = new AgentSession(socket, options);
  await session.run();
}

class AgentSession {
  readonly #options: AgentSessionOptions;
  readonly #channel: SessionChannel;
  /** Aborts when the connection has ended, or the agent stops. */
  readonly #ending = new AbortController();
  #takeOpen: (open: SessionOpen) => void = () => undefined;
  readonly #opened = new Promise<SessionOpen>((resolve) => {
    this.#takeOpen = resolve;
  });
  #takeProcess: (process: SessionProcess) => void = () => undefined;
  readonly #process = new Promise<SessionProcess>((resolve) => {
    this.#takeProcess = resolve;
  });
  /** The input in its order. The window of the channel bounds it. */
  #input: Promise<unknown> = Promise.resolve();
  #size: { cols: number; rows: number } | undefined;
  #isResizing = false;
  #signalsWaiting = 0;
  #signals: Promise<unknown> = Promise.resolve();

  constructor(socket: SessionSocket, options: AgentSessionOptions) {
    this.#options = options;
    const { signal, clock } = options;
    const abort = (): void => this.#ending.abort(new Error("the session ends"));
    const unlisten = onAbort(signal, abort);
    let cancel = clock.after(SILENCE_MS_MAX, () => socket.terminate());
    const noteLife = (): void => {
      cancel();
      cancel = clock.after(SILENCE_MS_MAX, () => socket.terminate());
    };
    socket.on("ping", noteLife);
    this.#channel = new SessionChannel(socket, {
      sends: ["stdout", "stderr"],
      onData: (_stream, bytes) => this.#write(bytes),
      onControl: (control) => this.#take(control),
      onClose: () => {
        cancel();
        unlisten();
        abort();
      },
    });
  }

  async run(): Promise<void> {
    const { signal } = this.#ending;
    let process: SessionProcess | undefined;
    let unlisten = (): void => undefined;
    try {
      process = await this.#start(signal);
      const started = process;
      // Ends its output, too. The error has no reader: the last call of `end` repeats it.
      unlisten = onAbort(signal, () => void started.end().catch(() => undefined));
      this.#takeProcess(process);
      this.#channel.sendControl({ type: "opened" });
      for await (const { stream, bytes } of process.output) await this.#channel.send(stream, bytes);
      const code = await process.exitCode();
      this.#channel.sendControl({ type: "exit", code });
    } catch (error) {
      if (!this.#channel.isClosed) this.#channel.sendControl(toErrorControl(error, signal));
    } finally {
      unlisten();
      await process?.end().catch(() => undefined);
      this.#channel.close("the session ended");
    }
  }

  async #start(signal: AbortSignal): Promise<SessionProcess> {
    const { request, port } = this.#options;
    const { sessionId, setId, kind, container = "" } = request;
    const onLate = (): never => {
      throw new AgentError("session-not-opened", "The caller did not begin the session.", {
        phase: "run",
        temporary: true,
      });
    };
    const deadline = { timeoutMs: OPEN_TIMEOUT_MS, onLate };
    const open = await runAbortable({ signal, deadline }, () => this.#opened);
    const target = { sessionId, setId, container };
    if (kind === "exec") return port.exec(target, open, signal);
    if (kind === "attach") return port.attach(target, signal);
    throw new AgentError("agent-too-old", `The agent knows no session of kind ${kind}.`, {
      phase: "run",
      temporary: false,
    });
  }

  #write(bytes: Uint8Array): void {
    this.#input = this.#input
      .then(async () => (await this.#process).write(bytes))
      .catch(() => undefined) // the program has closed its input: the rest goes nowhere
      .then(() => this.#channel.consume("stdin", bytes.length));
  }

  #take(control: SessionControl): void {
    if (control.type === "open") this.#takeOpen(control);
    else if (control.type === "eof" && control.stream === "stdin") {
      this.#input = this.#input
        .then(async () => (await this.#process).endInput())
        .catch(() => undefined);
    } else if (control.type === "resize") {
      this.#size = { cols: control.cols, rows: control.rows };
      if (!this.#isResizing) void this.#resize();
    } else if (control.type === "signal" && this.#signalsWaiting < SIGNALS_WAITING_MAX) {
      this.#signalsWaiting++;
      this.#signals = this.#signals
        .then(async () => (await this.#process).sendSignal(control.name))
        .catch(() => undefined) // it has ended
        .finally(() => void this.#signalsWaiting--);
    }
  }

  /** Applies only the last of several sizes. */
  async #resize(): Promise<void> {
    this.#isResizing = true;
    const process = await this.#process;
    for (let size = this.#size; size; size = this.#size) {
      this.#size = undefined;
      await process.resize(size).catch(() => undefined); // it has ended, or has no terminal
      await sleep(this.#options.clock, 0, this.#ending.signal).catch(() => undefined);
    }
    this.#isResizing = false;
  }
}

function toErrorControl(error: unknown, signal: AbortSignal): SessionControl {
  if (signal.aborted)
    return { type: "error", code: "agent-stops", text: "The agent of the host restarts." };
  const code = error instanceof AgentError ? error.code : "session-failed";
  const text = error instanceof Error ? error.message : String(error);
  return { type: "error", code, text: truncate(text, 1_000) };
}
