import {
  SESSIONS_PER_HOST_MAX,
  type SessionRequest,
} from "../../contracts/agent-protocol/session-request.ts";
import { encodeControl } from "../../contracts/sessions/frames.ts";
import { closeCodes } from "../../contracts/sessions/session-socket.ts";
import type { Log } from "../../lib/log.ts";
import type { Clock } from "../base/clock.ts";
import type { DialSession, SessionPort } from "../ports/session-port.ts";
import { serveSession } from "./agent-session.ts";

/** Refusals that the agent sends at the same time. Further requests get no answer. */
const REFUSALS_MAX = 64;

export interface SessionsOptions {
  port: SessionPort;
  dial: DialSession;
  clock: Clock;
  log: Log;
  sessionsMax?: number;
}

/**
 * Serves the sessions of callers with containers of this host. Each runs until its program ends,
 * the caller disconnects, or the agent stops.
 */
export class Sessions {
  readonly #options: SessionsOptions;
  readonly #open = new Map<string, Promise<void>>();
  #refusals = 0;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  serve(requests: readonly SessionRequest[], signal: AbortSignal): void {
    const { sessionsMax = SESSIONS_PER_HOST_MAX } = this.#options;
    for (const request of requests) {
      const { sessionId } = request;
      if (this.#open.has(sessionId)) continue;
      if (this.#open.size >= sessionsMax) {
        void this.#refuse(sessionId, sessionsMax, signal);
        continue;
      }
      const served = this.#serve(request, signal).finally(() => this.#open.delete(sessionId));
      this.#open.set(sessionId, served);
    }
  }

  /** Resolves when no session is open. The signal of `serve` ends all of them. */
  async settled(): Promise<void> {
    await Promise.all(this.#open.values());
  }

  async #serve(request: SessionRequest, signal: AbortSignal): Promise<void> {
    const { port, dial, clock, log } = this.#options;
    const { sessionId } = request;
    try {
      const socket = await dial(sessionId, signal);
      await serveSession(socket, { request, port, clock, signal });
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, sessionId }, "cannot serve a session");
    }
  }

  async #refuse(sessionId: string, sessionsMax: number, signal: AbortSignal): Promise<void> {
    if (this.#refusals >= REFUSALS_MAX) return;
    this.#refusals++;
    try {
      const socket = await this.#options.dial(sessionId, signal);
      const text = `The host has ${sessionsMax} sessions already. Try again when one has ended.`;
      socket.on("error", () => socket.terminate());
      socket.send(encodeControl({ type: "error", code: "too-many-sessions", text }));
      socket.close(closeCodes.ended, "");
      socket.resume();
    } catch {
      // The caller gets an error after its deadline.
    } finally {
      this.#refusals--;
    }
  }
}
