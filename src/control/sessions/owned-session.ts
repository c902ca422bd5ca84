import type { NewSession, SessionEnd } from "../../db/queries/sessions/sessions.ts";
import { SESSION_SECONDS_MAX } from "../../contracts/api/sessions.ts";
import {
  decodeFrame,
  encodeControl,
  type Frame,
  type SessionOpen,
} from "../../contracts/sessions/frames.ts";
import { closeCodes, type SessionSocket } from "../../contracts/sessions/session-socket.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { ControlContext } from "../runtime/context.ts";
import { Heartbeat } from "../session-relay/heartbeat.ts";
import type { LiveSession } from "../session-relay/live-sessions.ts";
import { storeEnded, storeOpened } from "./record-session.ts";
import { SocketDirection } from "../session-relay/socket-direction.ts";

/** A caller that connects, and sends no first frame. */
const OPEN_TIMEOUT_MS = 10_000;

export interface OwnedSessionOptions {
  session: NewSession;
  idleSeconds: number;
  /** Whether the caller's token is still valid. Never rejects. */
  isPermitted: () => Promise<boolean>;
  /** Called once, at the end. */
  onEnd: () => void;
}

/** A frame that the peer may not send. */
type Sender = "caller" | "agent";

/**
 * A session in the process that has its caller. It passes frames between the caller and the agent,
 * counts their bytes, notes the exit code, and stores begin and end (I24). It ends the session of a
 * caller who sends malformed frames or lost the permission, after an idle time, and after a day.
 */
export class OwnedSession implements LiveSession {
  readonly #ctx: ControlContext;
  readonly #options: OwnedSessionOptions;
  readonly #caller: SessionSocket;
  readonly #agent: SessionSocket;
  readonly #callerBeat: Heartbeat;
  readonly #agentBeat: Heartbeat;
  readonly #toAgent: SocketDirection;
  readonly #toCaller: SocketDirection;
  readonly #beganAtMs = performance.now();
  readonly #result: SessionEnd = { exitCode: null, reason: null, bytesIn: 0, bytesOut: 0 };
  #activeAtMs = this.#beganAtMs;
  #program: string | null = null;
  #state: "connected" | "opening" | "open" | "ended" = "connected";
  #opened: Promise<unknown> = Promise.resolve();
  /** Frames that arrived together with the first one. A paused socket delivers no more. */
  #early: Uint8Array[] = [];
  #stored: Promise<void> | undefined;
  #openTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    ctx: ControlContext,
    { caller, agent }: { caller: SessionSocket; agent: SessionSocket },
    options: OwnedSessionOptions,
  ) {
    this.#ctx = ctx;
    this.#options = options;
    this.#caller = caller;
    this.#agent = agent;
    this.#callerBeat = new Heartbeat(caller);
    this.#agentBeat = new Heartbeat(agent);
    this.#toAgent = new SocketDirection(caller, agent);
    this.#toCaller = new SocketDirection(agent, caller);
    const late = { code: "session-not-opened", text: "The caller sent no first frame in time." };
    this.#openTimer = setTimeout(() => this.#finish(late, closeCodes.malformed), OPEN_TIMEOUT_MS);
    this.#listen(caller, "caller");
    this.#listen(agent, "agent");
    caller.on("close", () => this.#finish(reasons.callerLeft, closeCodes.ended));
    agent.on("close", () => this.#finish(reasons.agentLeft, closeCodes.failed));
    caller.resume();
    agent.resume();
  }

  check(): void {
    const nowMs = performance.now();
    if (nowMs - this.#activeAtMs > this.#options.idleSeconds * 1_000)
      return this.#finish(reasons.idle, closeCodes.ended);
    if (nowMs - this.#beganAtMs > SESSION_SECONDS_MAX * 1_000)
      return this.#finish(reasons.tooLong, closeCodes.ended);
    // A paused socket reads no pong.
    if (!this.#toAgent.isPaused && !this.#callerBeat.beat()) this.#caller.terminate();
    if (!this.#toCaller.isPaused && !this.#agentBeat.beat()) this.#agent.terminate();
    void this.#options.isPermitted().then((isPermitted) => {
      if (!isPermitted) this.#finish(reasons.forbidden, closeCodes.ended);
    });
  }

  async end(text: string): Promise<void> {
    this.#finish({ code: "session-ended", text }, closeCodes.restarting);
    await this.#stored;
  }

  #listen(socket: SessionSocket, sender: Sender): void {
    const beat = sender === "caller" ? this.#callerBeat : this.#agentBeat;
    socket.on("error", () => socket.terminate());
    socket.on("message", (message, isBinary) => {
      if (this.#state === "ended") return;
      beat.note();
      const frame = isBinary ? decodeFrame(message) : undefined;
      if (!frame || !isFrameOf(sender, frame)) {
        this.#finish(
          reasons[sender === "caller" ? "malformed" : "agentLeft"],
          closeCodes.malformed,
        );
      } else if (sender === "caller") this.#takeFromCaller(message, frame);
      else this.#takeFromAgent(message, frame);
    });
  }

  #takeFromCaller(message: Uint8Array, frame: Frame): void {
    const isOpen = frame.kind === "control" && frame.control.type === "open";
    if (isOpen !== (this.#state === "connected"))
      return this.#finish(reasons.malformed, closeCodes.malformed);
    if (frame.kind === "control" && frame.control.type === "open") {
      this.#state = "opening";
      clearTimeout(this.#openTimer);
      this.#caller.pause();
      this.#opened = this.#open(message, frame.control);
      return;
    }
    if (frame.kind === "data") {
      this.#activeAtMs = performance.now();
      this.#result.bytesIn += frame.bytes.length;
    }
    if (this.#state === "opening") this.#early.push(message);
    else this.#toAgent.pass(message);
  }

  #takeFromAgent(message: Uint8Array, frame: Frame): void {
    if (frame.kind === "data") {
      this.#activeAtMs = performance.now();
      this.#result.bytesOut += frame.bytes.length;
    } else if (frame.kind === "control" && frame.control.type === "exit") {
      this.#result.exitCode = frame.control.code;
    } else if (frame.kind === "control" && frame.control.type === "error") {
      const { code, text } = frame.control;
      this.#result.reason = { code, text };
    }
    this.#toCaller.pass(message);
  }

  /** The agent starts nothing before the begin is stored. */
  async #open(message: Uint8Array, { command }: SessionOpen): Promise<void> {
    this.#program = command[0]?.slice(0, 100) ?? null;
    try {
      await storeOpened(this.#ctx, this.#options.session, this.#program);
    } catch (error) {
      this.#ctx.log.error({ err: error }, "cannot store the begin of a session");
      this.#finish(reasons.notStored, closeCodes.failed);
      return;
    }
    if (this.#state !== "opening") return;
    this.#state = "open";
    for (const passed of [message, ...this.#early]) this.#toAgent.pass(passed);
    this.#early = [];
    this.#caller.resume();
  }

  /** Reports to the caller why the session ends, if the agent has not. */
  #finish(reason: Reason, code: number): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    clearTimeout(this.#openTimer);
    const result = this.#result;
    if (result.exitCode === null && result.reason === null) {
      result.reason = reason;
      const { code: errorCode, text } = reason;
      this.#caller.send(encodeControl({ type: "error", code: errorCode, text }));
    }
    for (const socket of [this.#caller, this.#agent]) {
      socket.close(code, "");
      socket.resume(); // a paused socket would never see the close of its peer
    }
    this.#options.onEnd();
    this.#stored = this.#opened.then(() => this.#storeEnd());
  }

  async #storeEnd(): Promise<void> {
    try {
      await storeEnded(this.#ctx, this.#options.session, {
        program: this.#program,
        end: this.#result,
      });
    } catch (error) {
      // The retention ends its row later.
      this.#ctx.log.error({ err: error }, "cannot store the end of a session");
    }
  }
}

const reasons = {
  callerLeft: { code: "session-caller-left", text: "The caller disconnected." },
  agentLeft: { code: "session-agent-left", text: "The host's agent disconnected." },
  malformed: { code: "session-malformed", text: "The caller sent a malformed frame." },
  idle: { code: "session-idle", text: "No byte passed for the longest permitted time." },
  tooLong: { code: "session-too-long", text: "The session lasted for a day." },
  forbidden: { code: "session-forbidden", text: "The token is revoked or expired." },
  notStored: { code: "session-not-stored", text: "Berth could not record the session." },
} as const satisfies Record<string, Reason>;

const callerControls = new Set(["open", "resize", "signal", "eof", "window"]);
const agentControls = new Set(["opened", "eof", "window", "exit", "error"]);

/** Whether the sender may send the frame. Both ignore controls of newer peers. */
function isFrameOf(sender: Sender, frame: Frame): boolean {
  if (frame.kind === "unknown") return true;
  if (frame.kind === "data") return (frame.stream === "stdin") === (sender === "caller");
  return (sender === "caller" ? callerControls : agentControls).has(frame.control.type);
}
