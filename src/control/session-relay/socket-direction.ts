import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";

/** Above this, the sender is paused, because a peer may ignore its credit. */
const BUFFERED_BYTES_MAX = 256 * 1024;
const RESUME_BYTES = 64 * 1024;

/** Passes messages from one socket to another. The only buffer is that of the target's socket. */
export class SocketDirection {
  readonly #from: SessionSocket;
  readonly #to: SessionSocket;
  #isPaused = false;

  constructor(from: SessionSocket, to: SessionSocket) {
    this.#from = from;
    this.#to = to;
  }

  /** True while the source is not read, so that it answers no ping. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  pass(message: Uint8Array): void {
    this.#to.send(message, () => {
      if (!this.#isPaused || this.#to.bufferedAmount > RESUME_BYTES) return;
      this.#isPaused = false;
      this.#from.resume();
    });
    if (this.#isPaused || this.#to.bufferedAmount <= BUFFERED_BYTES_MAX) return;
    this.#isPaused = true;
    this.#from.pause();
  }
}
