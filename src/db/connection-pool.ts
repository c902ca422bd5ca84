import type postgres from "postgres";

/** Has Postgres parse and analyse a statement once a connection: with the driver's `unsafe` it does so every time, unless it is told. */
export const prepared = { prepare: true, simple: false };

/** One connection. The driver opens it at its first use, closes it after idling, and opens it anew after a failure. */
interface Lane {
  client: postgres.Sql;
  /** Statements or transactions that have no answer yet. */
  underWay: number;
}

/**
 * Connections to Postgres, each a client of the driver by itself, used as one.
 *
 * The driver's own pool (postgres 3.4.9) keeps its idle connections in an array that it empties only when all of them are busy at
 * once. Until then the array grows by an entry a statement, and each statement looks through all of it: a process that has connections
 * to spare gets slower with every hour. With one connection all are busy whenever one is.
 *
 * A pool is either for statements or for transactions. The driver sends prepared statements behind others on a busy connection, and
 * when a `begin` is the hundredth there it does not keep the connection for its transaction, which then stays open and swallows what
 * others write on it. Where there are only transactions, none is ever sent behind anything.
 */
export class ConnectionPool {
  readonly #lanes: readonly Lane[];
  readonly #waiting: ((lane: Lane) => void)[] = [];

  /** @param open makes a client of at most one connection */
  constructor(size: number, open: () => postgres.Sql) {
    this.#lanes = Array.from({ length: size }, () => ({ client: open(), underWay: 0 }));
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

  /** Runs a transaction on a connection that has no other; first come, first served. */
  async begin<T>(work: (tx: postgres.TransactionSql) => Promise<T>): Promise<T> {
    const lane = await this.#take();
    try {
      return (await lane.client.begin(work)) as T;
    } finally {
      const next = this.#waiting.shift();
      if (next) next(lane);
      else lane.underWay--;
    }
  }

  async end(timeoutSeconds: number): Promise<void> {
    await Promise.all(this.clients.map((client) => client.end({ timeout: timeoutSeconds })));
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
