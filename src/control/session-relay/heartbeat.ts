import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";

/** A busy process, or thousands of other sessions, may delay one answer. */
const UNANSWERED_MAX = 2;

/** Detects that the peer of a socket is unreachable. It has no timer of its own. */
export class Heartbeat {
  readonly #socket: SessionSocket;
  #unanswered = 0;

  constructor(socket: SessionSocket) {
    this.#socket = socket;
    socket.on("pong", () => this.note());
  }

  /** Notes a message of the peer. */
  note(): void {
    this.#unanswered = 0;
  }

  /** Sends a ping. Returns false if the peer has sent nothing since the last two. */
  beat(): boolean {
    if (this.#unanswered === UNANSWERED_MAX) return false;
    this.#unanswered++;
    this.#socket.ping();
    return true;
  }
}
