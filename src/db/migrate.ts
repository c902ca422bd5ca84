import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { sql } from "drizzle-orm";
import type { PgliteDatabase } from "drizzle-orm/pglite";
import { migrate as migratePglite } from "drizzle-orm/pglite/migrator";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as migratePostgres } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { assert } from "../lib/assert.ts";
import type { Db, DbHandle } from "./postgres/open-postgres.ts";

const migrationsFolder = fileURLToPath(new URL("../../drizzle", import.meta.url));
/** Any constant does; it only has to be the same in every process that migrates. */
const migrationLockKey = 7_134_202;

/**
 * Brings a database to the newest schema. Safe to run from several processes at once (the migrator itself takes no lock)
 * and more than once. Throws when a migration was skipped: drizzle's migrator passes silently over one whose journal
 * time is not newer than the last applied.
 */
export async function migrate(databaseUrl: string): Promise<void> {
  const client = postgres(databaseUrl, {
    max: 1,
    onnotice: () => undefined,
    connection: { application_name: "berth-migrate", lock_timeout: 10_000 },
  });
  try {
    await client`select pg_advisory_lock(${migrationLockKey})`;
    const db = drizzle(client);
    await migratePostgres(db, { migrationsFolder });
    await assertSchemaCurrent(db);
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** The same for the embedded database, which nobody else can have open. */
export async function migrateEmbedded(handle: DbHandle): Promise<void> {
  // openPglite made this handle: its driver is the one that the migrator wants.
  await migratePglite(handle.db as unknown as PgliteDatabase, { migrationsFolder });
  await assertSchemaCurrent(handle.db);
}

/** Throws unless exactly the migrations of this build are applied. */
export async function assertSchemaCurrent(db: Db): Promise<void> {
  const journal: unknown = JSON.parse(
    await readFile(`${migrationsFolder}/meta/_journal.json`, "utf8"),
  );
  assert(isJournal(journal), "drizzle/meta/_journal.json has no entries");
  const applied = await countApplied(db);
  const built = journal.entries.length;
  if (applied < built)
    throw new Error(
      `the database has ${applied} of the ${built} migrations of this build: run them first (node dist/main/migrate.js)`,
    );
  if (applied > built)
    throw new Error(
      `the database has ${applied} migrations, this build only ${built}: run a build as new as the database`,
    );
}

function isJournal(value: unknown): value is { entries: unknown[] } {
  return (
    typeof value === "object" &&
    value !== null &&
    "entries" in value &&
    Array.isArray(value.entries)
  );
}

async function countApplied(db: Db): Promise<number> {
  const table = "drizzle.__drizzle_migrations";
  const found = await db.execute(sql`select count(to_regclass(${table}))::int as count`);
  if (firstCount(found) === 0) return 0;
  return firstCount(await db.execute(sql`select count(*)::int as count from ${sql.raw(table)}`));
}

function firstCount(result: unknown): number {
  const rows = Array.isArray(result) ? result : (result as { rows: unknown[] }).rows;
  return (rows[0] as { count: number }).count;
}
