import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import { drizzle as drizzlePostgres } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { assert } from "../../lib/assert.ts";
import { ConnectionPool } from "./connection-pool.ts";
import type { TransactionClient } from "./pipelined-transaction.ts";

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
 * took 15 ms in that minute. Compiling plans never pays for statements this short. Nor is a table read whole where an index serves,
 * whatever those statistics say: what is looked up often has one.
 */
const freshPlans = { plan_cache_mode: "force_custom_plan", jit: "off", enable_seqscan: "off" };

/**
 * Plans are made once a connection, which saves a short statement up to two thirds of its time, and the checks of foreign keys theirs.
 * Without scans and joins of whole tables the plan can only be to look everything up, however empty the tables were when it was made.
 */
const keptPlans = {
  plan_cache_mode: "force_generic_plan",
  jit: "off",
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
};

const keyedDbs = new WeakMap<Queryable, Queryable>();

/**
 * Where to run a statement that finds all of its rows by key, a few at most, whatever the tables hold: on connections that keep their
 * plans, or as part of the transaction that `q` is.
 */
export function keyedOf(q: Queryable): Queryable {
  return keyedDbs.get(q) ?? q;
}

const KEYED_SHARE = 0.4;
const STATEMENTS_SHARE = 0.2;
/** With fewer they cannot be shared out. */
const SHARED_OUT_MIN = 5;

/**
 * Opens connections on first use, which close after a minute of idling. Transactions, keyed statements (see `keyedOf`) and other
 * single statements have connections of their own.
 *
 * With too few for that there is one (as the edge wants it), on which nothing is prepared, and so nothing is sent behind anything else.
 */
export function openPostgres(options: DbOptions): DbHandle {
  const { connectionsMax } = options;
  const open = (
    plans: Record<string, string>,
    more: { onclose?: () => void; max_lifetime?: null } = {},
  ): postgres.Sql =>
    postgres(options.databaseUrl, {
      max: 1,
      idle_timeout: 60,
      connect_timeout: 10,
      onnotice: () => undefined,
      ...more,
      connection: {
        application_name: options.applicationName ?? "berth",
        ...plans,
        statement_timeout: options.statementTimeoutMs,
        idle_in_transaction_session_timeout: options.statementTimeoutMs,
      },
    });
  if (connectionsMax < SHARED_OUT_MIN) {
    const only = open(freshPlans);
    return { db: drizzlePostgres(only), connectionsMax: 1, close: () => only.end({ timeout: 5 }) };
  }
  const keyedMax = Math.floor(connectionsMax * KEYED_SHARE);
  const statementsMax = Math.floor(connectionsMax * STATEMENTS_SHARE);
  const transactionsMax = connectionsMax - keyedMax - statementsMax;
  const keyed = new ConnectionPool(keyedMax, (onclose) => open(keptPlans, { onclose }));
  const statements = new ConnectionPool(statementsMax, (onclose) => open(freshPlans, { onclose }));
  // The driver, which knows nothing of transactions that it has not begun, may not end a connection for its age in the midst of one.
  const transactions = new ConnectionPool(transactionsMax, (onclose) =>
    open(freshPlans, { onclose, max_lifetime: null }),
  );
  const db = openDrizzle(statements, transactions);
  keyedDbs.set(db, openDrizzle(keyed, transactions));
  const pools = [keyed, statements, transactions];
  return {
    db,
    connectionsMax,
    close: async () => void (await Promise.all(pools.map((pool) => pool.end(5)))),
  };
}

/** drizzle over pools. It knows the driver only: so it is given a client whose statements and transactions are theirs. */
function openDrizzle(statements: ConnectionPool, transactions: ConnectionPool): Db {
  const [first, ...others] = [...statements.clients, ...transactions.clients];
  assert(first, "a pool has a connection");
  const client = new Proxy(first, {
    get(target, property, receiver) {
      if (property === "unsafe")
        return (query: string, parameters?: never[]) => statements.run(query, parameters);
      if (property === "begin") {
        return (work: (tx: TransactionClient) => Promise<unknown>) => transactions.begin(work);
      }
      return Reflect.get(target, property, receiver) as unknown;
    },
  });
  const db = drizzlePostgres(client);
  // drizzle sets how values are read and written (dates and JSON as text) on the client that it is given.
  for (const { options } of others) {
    Object.assign(options.parsers, first.options.parsers);
    Object.assign(options.serializers, first.options.serializers);
  }
  return db;
}
