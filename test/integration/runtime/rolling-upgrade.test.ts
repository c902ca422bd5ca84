import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { assertSchemaCompatible, migrate } from "../../../src/db/migrate.ts";
import { type DbHandle, openPostgres } from "../../../src/db/postgres/open-postgres.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createTestDatabase, type TestDatabase } from "../../support/servers/test-services.ts";

let database: TestDatabase;
let handle: DbHandle;

beforeAll(async () => {
  database = await createTestDatabase();
  handle = openPostgres({
    databaseUrl: database.url,
    connectionsMax: 5,
    statementTimeoutMs: 10_000,
  });
});
afterAll(async () => {
  await handle.close();
  await database.drop();
});

/** Adds a migration that this build does not know, like a newer release. */
async function applyNewerMigration(): Promise<number> {
  const { db } = handle;
  await db.execute(sql`
    insert into drizzle.__drizzle_migrations (hash, created_at)
    select 'newer', max(created_at) + 1 from drizzle.__drizzle_migrations`);
  return countMigrations();
}

async function countMigrations(): Promise<number> {
  const [row] = await queryRows<{ count: number }>(
    handle.db,
    sql`select count(*)::int as count from drizzle.__drizzle_migrations`,
  );
  return row?.count ?? 0;
}

test("a process starts on the newer schema of a rolling upgrade, and its migrate changes nothing", async () => {
  const applied = await applyNewerMigration();
  await assertSchemaCompatible(handle.db);
  await migrate(database.url);
  expect(await countMigrations()).toBe(applied);
});

test("a process does not start on a schema that needs a newer build", async () => {
  const applied = await applyNewerMigration();
  await handle.db.execute(sql`update schema_compatibility set migrations_min = ${applied}`);
  await expect(assertSchemaCompatible(handle.db)).rejects.toThrow(
    `The database needs a build with at least ${applied} migrations.`,
  );
  await expect(migrate(database.url)).rejects.toThrow("Start a newer build.");
});
