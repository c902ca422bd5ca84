/** A session with open connections in this process. */
export interface LiveSession {
  /** Pings its peers, and ends the session if it may not continue. Called every 15 s. */
  check(): void;
  /** Ends its connections. Resolves when the end is stored. Never rejects. */
  end(reason: string): Promise<void>;
}

const CHECK_MS = 15_000;

/**
 * The sessions of this process. One timer checks all of them, because each timer of its own would
 * cost memory in 10,000 idle sessions.
 */
export class LiveSessions {
  readonly #sessions = new Set<LiveSession>();
  #timer: ReturnType<typeof setInterval> | undefined;

  get size(): number {
    return this.#sessions.size;
  }

  add(session: LiveSession): void {
    this.#sessions.add(session);
    this.#timer ??= setInterval(() => this.checkAll(), CHECK_MS);
  }

  remove(session: LiveSession): void {
    this.#sessions.delete(session);
    if (this.#sessions.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  checkAll(): void {
    for (const session of this.#sessions) session.check();
  }

  /** Ends all sessions, at the shutdown of the process. */
  async endAll(reason: string): Promise<void> {
    await Promise.all([...this.#sessions].map((session) => session.end(reason)));
  }
}
