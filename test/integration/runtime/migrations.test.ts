import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as migrateFolder } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { afterEach, beforeEach, expect, it } from "vitest";
import { migrate } from "../../../src/db/migrate.ts";
import { createEmptyDatabase, type TestDatabase } from "../../support/servers/test-services.ts";

/** The newest migration of the release that a running fleet upgrades from. */
const PREVIOUS_MIGRATIONS = 13;

let database: TestDatabase;
let sql: postgres.Sql;
let folder: string;
beforeEach(async () => {
  database = await createEmptyDatabase();
  sql = postgres(database.url, { max: 3, onnotice: () => undefined });
  folder = await mkdtemp(path.join(tmpdir(), "berth-migrations-"));
  await cp(fileURLToPath(new URL("../../../drizzle", import.meta.url)), folder, {
    recursive: true,
  });
  const file = path.join(folder, "meta/_journal.json");
  const journal = JSON.parse(await readFile(file, "utf8")) as { entries: unknown[] };
  journal.entries = journal.entries.slice(0, PREVIOUS_MIGRATIONS);
  await writeFile(file, JSON.stringify(journal));
  await migrateFolder(drizzle(sql), { migrationsFolder: folder });
});
afterEach(async () => {
  await sql.end();
  await rm(folder, { recursive: true });
  await database.drop();
});

const countApplied = async () =>
  Number((await sql`select count(*) from drizzle.__drizzle_migrations`)[0]?.["count"]);

it("rows of the previous release survive: held demands become due, volumes wait, quotas count", async () => {
  await sql`insert into tenants (id, name, sets_max, cpu_millis_max, memory_bytes_max) values ('tnt_a', 'acme', 100, 100000, 1000000000000)`;
  const template = {
    cpuMillis: 1000,
    memoryBytes: 1000,
    rootfsBytes: 1000,
    containers: [],
    volume: { sizeBytes: 5000 },
  };
  await sql`insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost, set_cpu_millis, set_memory_bytes)
    values ('svc_a', 'tnt_a', 'db', 2, 3, 0, '{"antiAffinity": [], "pool": "default", "tolerations": [], "hostLabels": {}}', 'replace', 1000, 1000)`;
  await sql`insert into revisions (service_id, number, template) values ('svc_a', 1, ${JSON.stringify(template)})`;
  await sql`insert into sets (id, tenant_id, service_id, revision, priority, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes)
    select 'set_' || n, 'tnt_a', 'svc_a', 1, 0, 1000, 1000, 5000, 1000 from generate_series(1, 3) n`;
  await sql`insert into hooks (id, tenant_id, service_id, name, rules, stabilisation_seconds)
    values ('hook_a', 'tnt_a', 'svc_a', 'alerts', '[{"match": {"severity": "page"}, "want": {"step": 2}}]', 300)`;
  await sql`insert into demands (id, tenant_id, service_id, hook_id, key, labels, state, wanted_replicas, base_replicas, started_at)
    values ('dmd_a', 'tnt_a', 'svc_a', 'hook_a', 'k', '{"severity": "page"}', 'firing', 5, 3, now())`;
  await migrate(database.url);
  expect(await sql`select on_host_lost from services`).toEqual([{ on_host_lost: "wait" }]);
  expect(await sql`select want from demands`).toEqual([{ want: { step: 2 } }]);
  expect(await sql`select service_id, due_at is not null as is_due from autoscale_states`).toEqual([
    { service_id: "svc_a", is_due: true },
  ]);
  await migrate(database.url); // once more changes nothing
});

it("a migration that waits too long for a lock is repeated, and those before it stay applied", async () => {
  const reader = await sql.reserve();
  await reader`begin`;
  await reader`select 1 from hosts`; // 0015 is the first that changes hosts
  const migrated = migrate(database.url, { lockTimeoutMs: 100 });
  await expect.poll(countApplied, { timeout: 20_000 }).toBe(15);
  await reader`commit`;
  reader.release();
  await migrated;
  expect(await countApplied()).toBeGreaterThan(15);
});
