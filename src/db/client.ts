import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import { drizzle as drizzlePostgres } from "drizzle-orm/postgres-js";
import postgres from "postgres";

/** Either driver behind one type: postgres.js, or PGlite for one machine. */
export type Db = PgDatabase<PgQueryResultHKT>;
/** What queries take: the database, or a transaction of it. */
export type Queryable = Pick<Db, "select" | "insert" | "update" | "delete" | "execute">;

export interface DbHandle {
  db: Db;
  close(): Promise<void>;
}

export interface DbOptions {
  databaseUrl: string;
  connectionsMax: number;
  /** Kills a statement that runs longer, so that none holds locks for ever. */
  statementTimeoutMs: number;
}

/** Opens a pool. Connections are made on first use and closed after a minute of idling. */
export function openPostgres(options: DbOptions): DbHandle {
  const client = postgres(options.databaseUrl, {
    max: options.connectionsMax,
    idle_timeout: 60,
    connect_timeout: 10,
    onnotice: () => undefined,
    connection: {
      application_name: "berth",
      statement_timeout: options.statementTimeoutMs,
      idle_in_transaction_session_timeout: options.statementTimeoutMs,
    },
  });
  return { db: drizzlePostgres(preparing(client)), close: () => client.end({ timeout: 5 }) };
}

/**
 * Has Postgres parse and plan each statement once a connection, instead of every time. drizzle runs everything through `unsafe`, which
 * prepares nothing unless it is told to; there is no setting for it. Planning cost more than half of a small statement's time.
 */
function preparing<T extends postgres.Sql>(client: T): T {
  return new Proxy(client, {
    get(target, property, receiver) {
      const member: unknown = Reflect.get(target, property, receiver);
      if (property === "unsafe") {
        return (query: string, parameters?: never[]) =>
          target.unsafe(query, parameters, { prepare: true });
      }
      if (property === "begin") {
        return (...args: unknown[]) => {
          const work = args.at(-1) as (scoped: postgres.Sql) => unknown;
          const scopedWork = (scoped: postgres.Sql): unknown => work(preparing(scoped));
          const begin = member as (...all: unknown[]) => unknown;
          return Reflect.apply(begin, target, [...args.slice(0, -1), scopedWork]);
        };
      }
      return member;
    },
  });
}
