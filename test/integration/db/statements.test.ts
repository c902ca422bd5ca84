import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/pg-proxy";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Db } from "../../../src/db/postgres/open-postgres.ts";
import { querySamples } from "../../support/db/query-samples.ts";
import { createTestDatabase, type TestDatabase } from "../../support/servers/test-services.ts";

/**
 * Postgres parses every statement of the query functions against the migrated schema. A renamed
 * column, a wrong type or a missing cast fails here, even in a statement that no other test runs.
 */
const queriesFolder = fileURLToPath(new URL("../../../src/db/queries", import.meta.url));
const booleanType = 16;

let database: TestDatabase;
let client: postgres.Sql;
beforeAll(async () => {
  database = await createTestDatabase();
  client = postgres(database.url, { max: 4, onnotice: () => undefined });
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

it("each query function has a sample", () => {
  expect(Object.keys(querySamples).toSorted()).toEqual(listQueryFunctions().toSorted());
});

it("I15: no statement on the connections of authentication writes or locks", () => {
  const files = readdirSync(queriesFolder, { recursive: true, encoding: "utf8" });
  const sources = files
    .filter((file) => file.endsWith(".ts"))
    .map((file) => readFileSync(path.join(queriesFolder, file), "utf8"));
  const statements = sources.flatMap((source) =>
    [...source.matchAll(/readByKey(?:<[^(]*>)?\(\s*\w+,\s*sql`([^`]*)`/g)].map(([, text]) => text),
  );
  expect(statements.length).toBeGreaterThan(5);
  const writes = statements.filter((text) =>
    /\b(?:insert into|update \w+ set|delete from|for update|for share)\b/i.test(text ?? ""),
  );
  expect(writes).toEqual([]);
});

describe("Postgres accepts each statement of", () => {
  it.each(Object.keys(querySamples))("%s", async (name) => {
    const withoutRows = await prepareStatements(name, { hasRows: false });
    const withRows = await prepareStatements(name, { hasRows: true });
    expect([...withoutRows.errors, ...withRows.errors]).toEqual([]);
    expect(withoutRows.prepared).toBeGreaterThan(0);
  });
});

/** The exported functions whose first parameter is a database or a transaction. */
function listQueryFunctions(): string[] {
  const files = readdirSync(queriesFolder, { recursive: true, encoding: "utf8" });
  return files
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .filter((file) => file !== path.join("runtime", "query.ts"))
    .flatMap((file) => {
      const source = readFileSync(path.join(queriesFolder, file), "utf8");
      const found = source.matchAll(
        /^export (?:async )?function (?<name>\w+)\(\s*\w+: (?:Queryable|Db)\b/gm,
      );
      return [...found].flatMap(({ groups }) => groups?.["name"] ?? []);
    });
}

/**
 * Calls the samples of a function with a database that prepares each statement and runs none. It
 * answers no rows, or one row whose booleans are true. A function that needs other rows throws
 * after its statement; only the errors of Postgres count.
 */
async function prepareStatements(name: string, { hasRows }: { hasRows: boolean }) {
  const errors: string[] = [];
  let prepared = 0;
  const recorder = drizzle(async (text, params, method) => {
    try {
      const { columns } = await client.unsafe(text, params as never[]).describe();
      prepared++;
      if (!hasRows) return { rows: [] };
      const values = columns.map(({ name, type }) => [name, type === booleanType || null] as const);
      // Typed statements take the values of a row in order.
      const row = method === "all" ? values.map(([, value]) => value) : Object.fromEntries(values);
      return { rows: [row] };
    } catch (error) {
      errors.push(`${String(error)}\n${text}`);
      return { rows: [] };
    }
  });
  await Promise.allSettled(querySamples[name]?.(recorder as unknown as Db) ?? []);
  return { errors, prepared };
}
