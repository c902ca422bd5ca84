import { setTimeout as delay } from "node:timers/promises";
import type postgres from "postgres";
import {
  ConnectionLost,
  prepared,
  runTransaction,
  type TransactionClient,
} from "./pipelined-transaction.ts";

/** What a client was given while its connection was being closed has so long to be answered by the next. */
const UNANSWERED_SECONDS_MAX = 5;
/** How often a transaction meets a connection that is being closed, before it fails. */
const UNBEGUN_MAX = 2;
const END_LOOK_MS = 10;

/** In the words of the driver, of the kernel, and of Postgres, when it is told to close one. */
const closings = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "ECONNRESET",
  "EPIPE",
  "57P01",
]);

interface Lane {
  /** Of one connection at most: opened at its first use, closed after idling. */
  client: postgres.Sql;
  /** Statements or transactions that have no answer yet. */
  underWay: number;
  /** To be told when the connection is closed. */
  onClose: (() => void) | undefined;
}

/**
 * Connections to Postgres, each a client of the driver by itself, used as one.
 *
 * The driver's own pool (postgres 3.4.9) keeps its idle connections in an array that it empties only when all of them are busy at
 * once. Until then the array grows by an entry a statement, and each statement looks through all of it: a process that has connections
 * to spare gets slower with every hour. With one connection all are busy whenever one is.
 *
 * A client whose connection was closed is replaced. What it is given between its notice of an error and that of the end it never
 * answers, and then nothing else either.
 *
 * A pool is either for statements or for transactions, so that no transaction waits behind what is sent to its connection.
 */
export class ConnectionPool {
  readonly #open: (onClose: () => void) => postgres.Sql;
  readonly #lanes: readonly Lane[];
  readonly #waiting: ((lane: Lane) => void)[] = [];
  #isEnding = false;

  /** @param open makes a client of at most one connection, which says when that is closed */
  constructor(size: number, open: (onClose: () => void) => postgres.Sql) {
    this.#open = open;
    this.#lanes = Array.from({ length: size }, () => {
      const lane: Lane = { client: this.#openFor(() => lane), underWay: 0, onClose: undefined };
      return lane;
    });
  }

  get clients(): postgres.Sql[] {
    return this.#lanes.map(({ client }) => client);
  }

  /** Runs a statement on the connection that has the fewest under way, behind those. */
  run(query: string, parameters?: never[]): ReturnType<postgres.Sql["unsafe"]> {
    const lane = this.#leastBusy();
    lane.underWay++;
    const answer = lane.client.unsafe(query, parameters, prepared);
    const end = (): void => void lane.underWay--;
    answer.then(end, end);
    return answer;
  }

  /**
   * Runs a transaction on a connection that has no other; first come, first served. `work` is run again when the connection was closed
   * before the transaction had begun, for idling say.
   */
  async begin<T>(work: (client: TransactionClient) => Promise<T>): Promise<T> {
    const lane = await this.#take();
    try {
      for (let unbegun = 0; ; unbegun++) {
        const lost = new AbortController();
        lane.onClose = () => lost.abort();
        try {
          return await runTransaction(lane.client, lost.signal, work);
        } catch (error) {
          if (!(error instanceof ConnectionLost) || error.hasBegun) throw error;
          // One that was closed may be opened again. One that could not be opened is said to be so, at once.
          if (!isOfClosing(error.cause)) throw error.cause;
          if (unbegun === UNBEGUN_MAX) throw error;
        }
      }
    } finally {
      lane.onClose = undefined;
      const next = this.#waiting.shift();
      if (next) next(lane);
      else lane.underWay--;
    }
  }

  /** Closes all once what is under way has come to its end. What has not after `timeoutSeconds` is broken off. */
  async end(timeoutSeconds: number): Promise<void> {
    this.#isEnding = true;
    const deadlineMs = performance.now() + timeoutSeconds * 1_000;
    // The driver, which knows of no transaction, would close its connection between two of its statements.
    while (this.#lanes.some(({ underWay }) => underWay > 0) && performance.now() < deadlineMs)
      await delay(END_LOOK_MS);
    for (const lane of this.#lanes) lane.onClose?.();
    await Promise.all(this.clients.map((client) => client.end({ timeout: 1 })));
  }

  #openFor(laneOf: () => Lane): postgres.Sql {
    const client = this.#open(() => {
      if (this.#isEnding || laneOf().client !== client) return;
      this.#replaceClient(laneOf());
    });
    return client;
  }

  #replaceClient(lane: Lane): void {
    const { client: before } = lane;
    lane.client = this.#openFor(() => lane);
    for (const kind of ["parsers", "serializers"] as const)
      Object.assign(lane.client.options[kind], before.options[kind]);
    // Of a transaction nothing more may be carried out, as its parts would be by themselves. Statements that came while the connection
    // ended for idling still are, on another; what never gets an answer fails.
    const timeout = lane.onClose ? 0 : UNANSWERED_SECONDS_MAX;
    before.end({ timeout }).catch(() => undefined);
    lane.onClose?.();
  }

  async #take(): Promise<Lane> {
    const lane = this.#leastBusy();
    if (lane.underWay > 0) return new Promise((resolve) => this.#waiting.push(resolve));
    lane.underWay++;
    return lane;
  }

  /** Of equals the first, so that what is seldom needed is seldom open. */
  #leastBusy(): Lane {
    return this.#lanes.reduce((best, lane) => (lane.underWay < best.underWay ? lane : best));
  }
}

/** Whether a connection was there and went away; nothing is said of one that idled for too long. */
function isOfClosing(error: unknown): boolean {
  if (!(error instanceof Error)) return true;
  return "code" in error && closings.has(String(error.code));
}
