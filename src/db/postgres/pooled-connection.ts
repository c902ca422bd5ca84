import type postgres from "postgres";

/** The driver does not prepare statements of `unsafe` by default. */
const prepared = { prepare: true, simple: false };

export type Answer = ReturnType<postgres.Sql["unsafe"]>;
/** Makes a driver client of one connection, which calls `onClose` when the connection is closed. */
export type OpenClient = (onClose: () => void) => postgres.Sql;

/** Codes of the driver, the kernel and Postgres for a connection that existed and was closed. */
const closingCodes = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "ECONNRESET",
  "EPIPE",
  "57P01",
  "57P02",
]);

/**
 * Whether the error says that an open connection was closed. An error without a code counts as
 * one.
 */
export function isClosing(error: unknown): boolean {
  if (!(error instanceof Error)) return true;
  return "code" in error && closingCodes.has(String(error.code));
}

/**
 * One connection to Postgres, from its opening to its loss. It never reconnects: the pool
 * replaces it. So no statement meets a session without its settings, and no statement of a
 * transaction runs outside of it.
 *
 * Session settings are set by a statement after the connection is open. As startup parameters
 * they would make PgBouncer refuse the connection.
 */
export class PooledConnection {
  /** Statements or transactions that hold this connection. The pool counts. */
  inFlight = 0;
  /** Since when nothing holds the connection, by `performance.now()`. */
  idleSinceMs = performance.now();
  readonly openedAtMs = performance.now();
  readonly #client: postgres.Sql;
  readonly #settings: Readonly<Record<string, string>>;
  readonly #onLost: (connection: PooledConnection) => void;
  readonly #lost = new AbortController();
  #opened: Promise<void> | undefined;
  #isReady = false;
  #unanswered = 0;
  #silentTicks = 0;

  /** @param onLost is called once, when the connection is closed or given up */
  constructor(
    open: OpenClient,
    settings: Readonly<Record<string, string>>,
    onLost: (connection: PooledConnection) => void,
  ) {
    this.#settings = settings;
    this.#onLost = onLost;
    this.#client = open(() => this.giveUp());
  }

  /** The connection is open and has its settings: a statement can be sent without waiting. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Aborts when the connection is lost. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Opens the connection at the first call. Rejects with the driver's error when that fails. */
  open(): Promise<void> {
    this.#opened ??= this.#configure();
    return this.#opened;
  }

  /**
   * Sends a statement behind those that have no answer yet. Call it only once the connection is
   * open.
   */
  send(query: string, parameters?: never[]): Answer {
    const answer = this.#client.unsafe(query, parameters, prepared);
    this.#track(answer);
    return answer;
  }

  /** Closes an idle connection. */
  async close(timeoutSeconds: number): Promise<void> {
    await this.#client.end({ timeout: timeoutSeconds });
  }

  /** Gives the connection up: statements without an answer fail, and the pool replaces it. */
  giveUp(): void {
    if (this.#lost.signal.aborted) return;
    this.#isReady = false;
    this.#client.end({ timeout: 0 }).catch(() => undefined);
    this.#lost.abort(connectionIsLost);
    this.#onLost(this);
  }

  /**
   * Gives the connection up when it has not answered for `ticksMax` ticks in a row, although a
   * statement waits. Ticks are counted instead of time, as a process that was stopped for a while
   * has not read the answers that are there.
   */
  tick(ticksMax: number): void {
    this.#silentTicks = this.#unanswered === 0 ? 0 : this.#silentTicks + 1;
    if (this.#silentTicks > ticksMax) this.giveUp();
  }

  async #configure(): Promise<void> {
    const calls = Object.entries(this.#settings).map(
      ([name, value]) => `set_config('${name}', '${value}', false)`,
    );
    const answer = this.#client.unsafe(`select ${["1", ...calls].join(", ")}`);
    this.#track(answer);
    try {
      await answer;
      this.#isReady = !this.#lost.signal.aborted;
    } catch (error) {
      this.giveUp();
      throw error;
    }
  }

  #track(answer: Answer): void {
    this.#unanswered += 1;
    answer.then(this.#noteAnswer, this.#noteFailure);
  }

  readonly #noteAnswer = (): void => {
    this.#unanswered -= 1;
    this.#silentTicks = 0;
  };

  readonly #noteFailure = (error: unknown): void => {
    this.#noteAnswer();
    if (isClosing(error)) this.giveUp();
  };
}

/** A constant reason: an error object would record a stack for each lost connection. */
const connectionIsLost = "the connection is lost";
