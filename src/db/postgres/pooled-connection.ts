import postgres from "postgres";

/** The driver does not prepare statements of `unsafe` by default. */
const prepared = { prepare: true, simple: false };

export type Answer = ReturnType<postgres.Sql["unsafe"]>;
/** A driver client of one connection. */
export interface OpenedClient {
  client: postgres.Sql;
  /** Has later clients try the next host of the database URL first. */
  avoidHost: () => void;
}
/** Opens driver clients. */
export interface ClientSource {
  /** The number of hosts in the database URL. */
  hostCount: number;
  /** @param onClose called when the connection is closed */
  open(onClose: () => void): OpenedClient;
}

export interface ConnectionListener {
  /** Called once, when the connection is closed, abandoned or retired. */
  onLost(connection: PooledConnection): void;
  /** Called when a statement failed because the server is read-only. */
  onReadOnly(): void;
}

/** SQLSTATE read_only_sql_transaction: the server is a standby, or refuses writes. */
const READ_ONLY = "25006";
/** Statements in flight of a retired connection have this time. */
const RETIRE_SECONDS = 30;

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
  readonly #source: ClientSource;
  readonly #settings: Readonly<Record<string, string>>;
  readonly #listener: ConnectionListener;
  readonly #lost = new AbortController();
  #opened: Promise<void> | undefined;
  #client: postgres.Sql;
  #avoidHost: () => void;
  #isReady = false;
  /** While it opens, a closed connection is a reason to try the next host. */
  #isOpening = true;
  #unanswered = 0;
  #silentTicks = 0;

  constructor(
    source: ClientSource,
    settings: Readonly<Record<string, string>>,
    listener: ConnectionListener,
  ) {
    this.#source = source;
    this.#settings = settings;
    this.#listener = listener;
    const { client, avoidHost } = this.#openClient();
    this.#client = client;
    this.#avoidHost = avoidHost;
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

  /** Abandons the connection: statements without an answer fail, and the pool replaces it. */
  abandon(): void {
    if (this.#lost.signal.aborted) return;
    this.#isReady = false;
    this.#client.end({ timeout: 0 }).catch(() => undefined);
    this.#lost.abort(connectionIsLost);
    this.#listener.onLost(this);
  }

  /**
   * Takes the connection out of use. Statements in flight get their answers, then it is closed.
   */
  retire(): void {
    if (this.#lost.signal.aborted || !this.#isReady) return;
    this.#isReady = false;
    this.#avoidHost();
    this.#listener.onLost(this);
    this.#client.end({ timeout: RETIRE_SECONDS }).catch(() => undefined);
  }

  /**
   * Abandons the connection when it has not answered for `ticksMax` ticks in a row, although a
   * statement waits. It counts ticks instead of time, because a process that was stopped for a
   * while has not read the responses that have arrived.
   */
  tick(ticksMax: number): void {
    this.#silentTicks = this.#unanswered === 0 ? 0 : this.#silentTicks + 1;
    if (this.#silentTicks <= ticksMax) return;
    this.#avoidHost();
    this.abandon();
  }

  #openClient(): OpenedClient {
    const opened = this.#source.open(() => {
      if (this.#client === opened.client && !this.#isOpening) this.abandon();
    });
    return opened;
  }

  /**
   * Opens the connection on the first host that answers and accepts writes. The driver tries the
   * next host only after a refused connection, not after a silent one.
   */
  async #configure(): Promise<void> {
    try {
      for (let attempt = 1; ; attempt++) {
        const failure = await this.#findFailure();
        if (failure === undefined) break;
        this.#avoidHost();
        if (attempt >= this.#source.hostCount || this.#lost.signal.aborted) throw failure;
        const avoided = this.#client;
        const { client, avoidHost } = this.#openClient();
        this.#client = client;
        this.#avoidHost = avoidHost;
        avoided.end({ timeout: 0 }).catch(() => undefined);
      }
      this.#isReady = !this.#lost.signal.aborted;
      this.#isOpening = false;
    } catch (error) {
      this.#isOpening = false;
      this.abandon();
      throw error;
    }
  }

  /** Why this host cannot be used. Throws errors that say nothing about the host. */
  async #findFailure(): Promise<Error | undefined> {
    try {
      return (await this.#isReadOnly()) ? new ReadOnlyServer() : undefined;
    } catch (error) {
      if (error instanceof Error && !(error instanceof postgres.PostgresError)) return error;
      throw error;
    }
  }

  /** Opens the connection, sets its settings, and reads whether the server refuses writes. */
  async #isReadOnly(): Promise<boolean> {
    const calls = Object.entries(this.#settings).map(
      ([name, value]) => `set_config('${name}', '${value}', false)`,
    );
    const columns = ["current_setting('transaction_read_only') as read_only", ...calls];
    const answer = this.#client.unsafe(`select ${columns.join(", ")}`);
    this.#track(answer);
    const [row] = await answer;
    return row?.["read_only"] === "on";
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
    if (isClosing(error) && !this.#isOpening) this.abandon();
    else if (isReadOnly(error)) this.#listener.onReadOnly();
  };
}

function isReadOnly(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === READ_ONLY;
}

/** No host of the database URL accepts writes. */
class ReadOnlyServer extends Error {
  override readonly name = "ReadOnlyServer";
  readonly code = READ_ONLY;

  constructor() {
    super("the server is a standby or refuses writes");
  }
}

/** A constant reason: an error object would record a stack for each lost connection. */
const connectionIsLost = "the connection is lost";
