import { closeCodes, type SessionSocket } from "../../contracts/sessions/session-socket.ts";
import { Heartbeat } from "./heartbeat.ts";
import type { LiveSession } from "./live-sessions.ts";
import { SocketDirection } from "./socket-direction.ts";

/**
 * Two sockets that pass all messages to each other: the agent of a host, and the process that owns
 * its session. Each ends with the other one.
 */
export class JoinedSockets implements LiveSession {
  readonly #sockets: readonly [SessionSocket, SessionSocket];
  readonly #beats: (() => boolean)[] = [];
  readonly #onEnd: () => void;
  #isEnded = false;

  constructor(one: SessionSocket, other: SessionSocket, { onEnd }: { onEnd: () => void }) {
    this.#sockets = [one, other];
    this.#onEnd = onEnd;
    this.#join(one, other);
    this.#join(other, one);
    one.resume();
    other.resume();
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  check(): void {
    const areAlive = this.#beats.map((beat) => beat());
    if (areAlive.includes(false)) this.#end((socket) => socket.terminate());
  }

  async end(reason: string): Promise<void> {
    this.#end((socket) => socket.close(closeCodes.restarting, reason));
  }

  #join(from: SessionSocket, to: SessionSocket): void {
    const direction = new SocketDirection(from, to);
    const heartbeat = new Heartbeat(from);
    this.#beats.push(() => direction.isPaused || heartbeat.beat());
    from.on("message", (message, isBinary) => {
      heartbeat.note();
      if (isBinary) direction.pass(message);
      else this.#end((socket) => socket.close(closeCodes.malformed, "malformed frame"));
    });
    from.on("error", () => from.terminate());
    from.on("close", () => this.#end((socket) => socket.close(closeCodes.ended, "")));
  }

  #end(close: (socket: SessionSocket) => void): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const socket of this.#sockets) {
      close(socket);
      socket.resume(); // a paused socket would never see the close of its peer
    }
    this.#onEnd();
  }
}
