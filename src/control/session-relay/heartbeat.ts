import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";

/** Detects that the peer of a socket is unreachable. It has no timer of its own. */
export class Heartbeat {
  readonly #socket: SessionSocket;
  #isAwaited = false;

  constructor(socket: SessionSocket) {
    this.#socket = socket;
    socket.on("pong", () => this.note());
  }

  /** Notes a message of the peer. */
  note(): void {
    this.#isAwaited = false;
  }

  /** Sends a ping. Returns false if the peer has sent nothing since the previous one. */
  beat(): boolean {
    if (this.#isAwaited) return false;
    this.#isAwaited = true;
    this.#socket.ping();
    return true;
  }
}
