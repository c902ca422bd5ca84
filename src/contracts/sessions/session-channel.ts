import { ReceiveWindow, SendWindow } from "./credit.ts";
import {
  type DataStream,
  decodeFrame,
  encodeControl,
  encodeData,
  FRAME_PAYLOAD_BYTES_MAX,
  type SessionControl,
} from "./frames.ts";
import { closeCodes, type SessionSocket } from "./session-socket.ts";

export interface SessionChannelOptions {
  /** The streams that this end sends. It receives the others. */
  sends: readonly DataStream[];
  /** Receives bytes of a stream. Call `consume` for them later. */
  onData: (stream: DataStream, bytes: Uint8Array) => void;
  /** Receives all controls but `window`. */
  onControl: (control: SessionControl) => void;
  /** Called once, when the connection has ended. */
  onClose: (reason: SessionClosed) => void;
}

/** The connection of a session has ended. */
export class SessionClosed extends Error {
  override readonly name = "SessionClosed";
}

const streams = ["stdin", "stdout", "stderr"] as const;

/**
 * One end of a session: the frames of a socket, with flow control in both directions. Each
 * direction of each stream has at most WINDOW_BYTES that are not consumed, so a peer that reads
 * nothing costs bounded memory at each place. A malformed frame, and bytes without credit, end the
 * session.
 */
export class SessionChannel {
  readonly #socket: SessionSocket;
  readonly #options: SessionChannelOptions;
  readonly #sent = new Map<DataStream, SendWindow>();
  readonly #received = new Map<DataStream, ReceiveWindow>();
  readonly #waiting = new Set<() => void>();
  #closed: SessionClosed | undefined;

  constructor(socket: SessionSocket, options: SessionChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    for (const stream of streams) {
      if (options.sends.includes(stream)) this.#sent.set(stream, new SendWindow());
      else this.#received.set(stream, new ReceiveWindow());
    }
    socket.on("message", (message, isBinary) => {
      if (!this.#closed && !(isBinary && this.#take(message)))
        this.#end("The peer sent a malformed frame.", closeCodes.malformed);
    });
    socket.on("close", (_code, reason) => this.#note(textOf(reason)));
    socket.on("error", (error) => this.#note(error.message));
    socket.resume();
  }

  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  sendControl(control: SessionControl): void {
    if (!this.#closed) this.#socket.send(encodeControl(control));
  }

  /**
   * Sends bytes as far as the receiver has consumed earlier ones. Rejects with SessionClosed. Calls
   * for one stream must not overlap.
   */
  async send(stream: DataStream, bytes: Uint8Array): Promise<void> {
    const window = this.#sent.get(stream);
    for (let start = 0; start < bytes.length;) {
      if (this.#closed || !window) throw this.#closed ?? new SessionClosed("not a sent stream");
      const taken = window.take(Math.min(bytes.length - start, FRAME_PAYLOAD_BYTES_MAX));
      if (taken === 0) {
        await new Promise<void>((resolve) => this.#waiting.add(resolve));
        continue;
      }
      this.#socket.send(encodeData(stream, bytes.subarray(start, start + taken)));
      start += taken;
    }
  }

  /** Lets the peer send as many further bytes of the stream. */
  consume(stream: DataStream, bytes: number): void {
    const granted = this.#received.get(stream)?.consume(bytes) ?? 0;
    if (granted > 0) this.sendControl({ type: "window", stream, bytes: granted });
  }

  /** Sends what waits, and ends the connection. */
  close(reason: string): void {
    this.#end(reason, closeCodes.ended);
  }

  /** Returns false if the peer violates the protocol. */
  #take(message: Uint8Array): boolean {
    const frame = decodeFrame(message);
    if (!frame) return false;
    if (frame.kind === "unknown") return true;
    if (frame.kind === "data") {
      const window = this.#received.get(frame.stream);
      if (!window?.receive(frame.bytes.length)) return false;
      this.#options.onData(frame.stream, frame.bytes);
      return true;
    }
    const { control } = frame;
    if (control.type !== "window") {
      this.#options.onControl(control);
      return true;
    }
    if (!this.#sent.get(control.stream)?.grant(control.bytes)) return false;
    this.#wake();
    return true;
  }

  #end(reason: string, code: number): void {
    if (this.#closed) return;
    this.#note(reason);
    this.#socket.close(code, reason.slice(0, 100));
  }

  #note(reason: string): void {
    if (this.#closed) return;
    this.#closed = new SessionClosed(reason === "" ? "The connection ended." : reason);
    this.#wake();
    this.#options.onClose(this.#closed);
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}

function textOf(reason: Uint8Array): string {
  return new TextDecoder().decode(reason);
}
