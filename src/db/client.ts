import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import { drizzle as drizzlePostgres } from "drizzle-orm/postgres-js";
import postgres from "postgres";

/** Either driver behind one type: postgres.js, or PGlite for one machine. */
export type Db = PgDatabase<PgQueryResultHKT>;
/** What queries take: the database, or a transaction of it. */
export type Queryable = Pick<Db, "select" | "insert" | "update" | "delete" | "execute">;

export interface DbHandle {
  db: Db;
  connectionsMax: number;
  close(): Promise<void>;
}

export interface DbOptions {
  databaseUrl: string;
  /** Which process it is, as Postgres shows it in pg_stat_activity: berth-api, for example. */
  applicationName?: string;
  connectionsMax: number;
  /** Kills a statement that runs longer, so that none holds locks for ever. */
  statementTimeoutMs: number;
}

/**
 * A plan is made for each execution. Left to itself Postgres keeps the plan that it made when a table was empty, and goes on
 * with it while a burst makes the table ten thousand times larger, until its statistics are renewed: statements of 0.2 ms
 * took 15 ms in that minute. Compiling plans never pays for statements this short.
 */
const steadyPlans = { plan_cache_mode: "force_custom_plan", jit: "off" };

/**
 * Opens a pool. Connections are made on first use and closed after a minute of idling.
 *
 * Transactions and single statements have connections of their own, half of them each. The driver sends prepared statements
 * behind others on a busy connection, and when a `begin` is the hundredth there it does not keep the connection for its
 * transaction, which then stays open and swallows what others write on it. Where there are only transactions, none is ever
 * sent behind anything. With one connection (the edge) nothing is prepared, so nothing is sent behind anything either.
 */
export function openPostgres(options: DbOptions): DbHandle {
  const open = (connectionsMax: number): postgres.Sql =>
    postgres(options.databaseUrl, {
      max: connectionsMax,
      idle_timeout: 60,
      connect_timeout: 10,
      onnotice: () => undefined,
      connection: {
        application_name: options.applicationName ?? "berth",
        ...steadyPlans,
        statement_timeout: options.statementTimeoutMs,
        idle_in_transaction_session_timeout: options.statementTimeoutMs,
      },
    });
  if (options.connectionsMax < 2) {
    const only = open(1);
    return { db: drizzlePostgres(only), connectionsMax: 1, close: () => only.end({ timeout: 5 }) };
  }
  const forTransactions = open(Math.ceil(options.connectionsMax / 2));
  const forStatements = open(Math.floor(options.connectionsMax / 2));
  const db = drizzlePostgres(preparing(forStatements, forTransactions));
  // drizzle sets how values are read and written (dates and JSON as text) on the client that it is given.
  Object.assign(forTransactions.options.parsers, forStatements.options.parsers);
  Object.assign(forTransactions.options.serializers, forStatements.options.serializers);
  return {
    db,
    connectionsMax: options.connectionsMax,
    close: async () => {
      await Promise.all([forTransactions.end({ timeout: 5 }), forStatements.end({ timeout: 5 })]);
    },
  };
}

/**
 * Has Postgres parse and analyse each statement once a connection, instead of every time. drizzle runs everything through
 * `unsafe`, which prepares nothing unless it is told to; there is no setting for it.
 * @param beginsOn where transactions are begun
 */
function preparing<T extends postgres.Sql>(client: T, beginsOn: postgres.Sql = client): T {
  return new Proxy(client, {
    get(target, property, receiver) {
      if (property === "unsafe") {
        return (query: string, parameters?: never[]) =>
          target.unsafe(query, parameters, { prepare: true });
      }
      if (property === "begin") {
        return (...args: unknown[]) => {
          const work = args.at(-1) as (scoped: postgres.Sql) => unknown;
          const scopedWork = (scoped: postgres.Sql): unknown => work(preparing(scoped));
          const begin: unknown = Reflect.get(beginsOn, property);
          return Reflect.apply(begin as () => unknown, beginsOn, [
            ...args.slice(0, -1),
            scopedWork,
          ]);
        };
      }
      return Reflect.get(target, property, receiver) as unknown;
    },
  });
}
