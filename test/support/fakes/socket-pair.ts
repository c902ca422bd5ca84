import { EventEmitter } from "node:events";
import type { SessionSocket } from "../../../src/contracts/sessions/session-socket.ts";

/**
 * One end of a connection in memory. It delivers messages in a later turn, buffers while its peer
 * is paused, and answers pings unless it is paused.
 */
export class FakeSocket extends EventEmitter implements SessionSocket {
  peer: FakeSocket | undefined;
  isPaused = true;
  isClosed = false;
  closeCode: number | undefined;
  readonly #waiting: { message: Uint8Array; isBinary: boolean; sent: (() => void) | undefined }[] =
    [];

  /** Bytes that the peer has not read. */
  get bufferedAmount(): number {
    return this.#waiting.reduce((sum, { message }) => sum + message.length, 0);
  }

  send(message: Uint8Array, sent?: () => void): void {
    this.sendAs(message, true, sent);
  }

  sendAs(message: Uint8Array, isBinary: boolean, sent?: () => void): void {
    if (this.isClosed) return;
    this.#waiting.push({ message: Uint8Array.from(message), isBinary, sent });
    setImmediate(() => this.deliver());
  }

  deliver(): void {
    while (this.peer && !this.peer.isPaused) {
      const next = this.#waiting.shift();
      if (!next) return;
      next.sent?.();
      if (!this.peer.isClosed) this.peer.emit("message", Buffer.from(next.message), next.isBinary);
    }
  }

  ping(): void {
    setImmediate(() => {
      if (!this.peer || this.peer.isPaused || this.peer.isClosed) return;
      this.peer.emit("ping");
      this.emit("pong");
    });
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    setImmediate(() => this.peer?.deliver());
  }

  close(code = 1005, reason = ""): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.closeCode = code;
    setImmediate(() => {
      this.deliver();
      this.emit("close", code, Buffer.from(reason));
      const peer = this.peer;
      if (peer && !peer.isClosed) {
        peer.isClosed = true;
        peer.emit("close", code, Buffer.from(reason));
      }
    });
  }

  terminate(): void {
    this.close(1006);
  }
}

/** Two ends of a connection, which are paused. */
export function createSocketPair(): [FakeSocket, FakeSocket] {
  const one = new FakeSocket();
  const other = new FakeSocket();
  one.peer = other;
  other.peer = one;
  return [one, other];
}
