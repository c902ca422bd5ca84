import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import { drizzle } from "drizzle-orm/postgres-js";
import type postgres from "postgres";
import type { TransactionClient } from "./pipelined-transaction.ts";
import type { Answer } from "./pooled-connection.ts";

/** Both drivers behind one type: postgres.js, and PGlite for one machine. */
export type Db = PgDatabase<PgQueryResultHKT>;

/** Sends statements and transactions: the part of a driver that drizzle uses. */
export interface StatementRunner {
  run(query: string, parameters?: never[]): Answer;
  begin<T>(work: (client: TransactionClient) => Promise<T>): Promise<T>;
}

type TypeOptions = Pick<postgres.Sql["options"], "parsers" | "serializers">;

/** A class, because drizzle takes a plain object for its configuration. */
class DrizzleClient {
  readonly options: TypeOptions = { parsers: {}, serializers: {} };
  readonly unsafe: StatementRunner["run"];
  readonly begin: StatementRunner["begin"];

  constructor(runner: StatementRunner) {
    this.unsafe = (query, parameters) => runner.run(query, parameters);
    this.begin = (work) => runner.begin(work);
  }
}

/** A drizzle database whose statements go to `runner`. Cheap enough for each request. */
export function createDrizzle(runner: StatementRunner): Db {
  return drizzle(new DrizzleClient(runner) as unknown as postgres.Sql);
}

/** Types that each driver client must read and write as drizzle expects: dates and JSON as text. */
export const drizzleTypes: TypeOptions = readDrizzleTypes();

function readDrizzleTypes(): TypeOptions {
  const unused = (): never => {
    throw new Error("this client only shows its types");
  };
  const client = new DrizzleClient({ run: unused, begin: unused });
  drizzle(client as unknown as postgres.Sql);
  return client.options;
}
