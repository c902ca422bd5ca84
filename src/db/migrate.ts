import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { sql } from "drizzle-orm";
import type { PgliteDatabase } from "drizzle-orm/pglite";
import { type MigrationMeta, readMigrationFiles } from "drizzle-orm/migrator";
import { migrate as migratePglite } from "drizzle-orm/pglite/migrator";
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { assert } from "../lib/assert.ts";
import { findSqlState } from "./errors.ts";
import type { Db, DbHandle } from "./postgres/open-postgres.ts";
import { hasRestoredRows, resetRestoredXids } from "./reset-restored-xids.ts";
import { skipLostAddresses } from "./skip-lost-addresses.ts";

const migrationsFolder = fileURLToPath(new URL("../../drizzle", import.meta.url));
/** An arbitrary constant, which all migrating processes share. */
const migrationLockKey = 7_134_202;

/**
 * A migration that waits longer for a lock rolls back, and is retried. While it waits, all later
 * queries on the table wait behind it. The pause before a retry lets them run.
 */
const LOCK_TIMEOUT_MS = 1_000;
const ATTEMPTS_PER_MIGRATION_MAX = 100;
const RETRY_DELAY_MS_MIN = 500;
const RETRY_DELAY_MS_MAX = 2_000;

export interface MigrateOptions {
  lockTimeoutMs?: number;
  /**
   * The database was restored, or has lost commits in a failover. After the restore of a physical
   * backup, nothing in the database shows that.
   */
  isRestored?: boolean;
}

/**
 * Migrates a database to the newest schema, and completes a restore: see `resetRestoredXids` and
 * `skipLostAddresses`. Several processes may call it, repeatedly. Throws if a migration was
 * skipped: drizzle silently skips one whose journal time is not newer than the last
 * applied migration.
 *
 * Each migration is a transaction. drizzle would run all pending migrations in one transaction.
 * That one would hold the locks of the first migration until the end, and deadlock with the reports
 * of a live fleet. A migration that loses a deadlock or waits too long for a lock is retried;
 * earlier migrations stay applied.
 */
export async function migrate(
  databaseUrl: string,
  { lockTimeoutMs = LOCK_TIMEOUT_MS, isRestored = false }: MigrateOptions = {},
): Promise<void> {
  const client = postgres(databaseUrl, {
    max: 1,
    onnotice: () => undefined,
    connection: { application_name: "berth-migrate", lock_timeout: lockTimeoutMs },
    // Of several hosts in the URL, the primary.
    ...(databaseUrl.includes(",") ? { target_session_attrs: "primary" } : {}),
  });
  try {
    // Another process may migrate for minutes, so this wait has no limit.
    await client`set lock_timeout = 0`;
    await client`select pg_advisory_lock(${migrationLockKey})`;
    await client.unsafe(`set lock_timeout = ${lockTimeoutMs}`);
    const db = drizzle(client);
    for (const migration of readMigrationFiles({ migrationsFolder })) await apply(db, migration);
    await assertSchemaCompatible(db);
    // Before the reset, because the rows show the restore until then.
    if (isRestored || (await hasRestoredRows(db))) await skipLostAddresses(db);
    await resetRestoredXids(db);
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** drizzle's internal step of `migrate`, absent in its types. It applies newer migrations only. */
interface MigratingDatabase {
  session: unknown;
  dialect: {
    migrate(migrations: MigrationMeta[], session: unknown, config: object): Promise<void>;
  };
}

async function apply(db: object, migration: MigrationMeta): Promise<void> {
  const { dialect, session } = db as MigratingDatabase;
  for (let attempt = 1; ; attempt++) {
    try {
      await dialect.migrate([migration], session, { migrationsFolder });
      return;
    } catch (error) {
      const isPassing = ["55P03", "40P01"].includes(findSqlState(error) ?? "");
      if (!isPassing || attempt === ATTEMPTS_PER_MIGRATION_MAX) throw error;
      await delay(RETRY_DELAY_MS_MIN + Math.random() * (RETRY_DELAY_MS_MAX - RETRY_DELAY_MS_MIN));
    }
  }
}

/** Migrates the embedded database, which only this process can open. */
export async function migrateEmbedded(handle: DbHandle): Promise<void> {
  // openPglite created this handle, so its driver matches the migrator.
  await migratePglite(handle.db as unknown as PgliteDatabase, { migrationsFolder });
  await assertSchemaCompatible(handle.db);
}

/**
 * Throws unless this build may run on the database.
 *
 * All migrations of the build must be applied. A database with more migrations is compatible unless
 * it states that it needs a newer build. A process of the previous release can therefore start
 * during a rolling upgrade and after a rollback of the code.
 */
export async function assertSchemaCompatible(db: Db): Promise<void> {
  const journal: unknown = JSON.parse(
    await readFile(`${migrationsFolder}/meta/_journal.json`, "utf8"),
  );
  assert(isJournal(journal), "drizzle/meta/_journal.json has no entries");
  const applied = await countApplied(db);
  const built = journal.entries.length;
  if (applied < built)
    throw new Error(
      `The database has ${applied} of the ${built} migrations of this build. Run \`node dist/main/migrate.js\` first.`,
    );
  if (applied === built) return;
  const migrationsMin = await readMigrationsMin(db);
  if (built < migrationsMin)
    throw new Error(
      `The database needs a build with at least ${migrationsMin} migrations. This build has ${built}. Start a newer build.`,
    );
}

async function readMigrationsMin(db: Db): Promise<number> {
  return firstCount(
    await db.execute(sql`select migrations_min as count from schema_compatibility`),
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
