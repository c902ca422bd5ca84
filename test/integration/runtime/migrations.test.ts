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

const MiB = 2 ** 20;

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
  expect(
    await sql`select service_id, tenant_id, due_at is not null as is_due from autoscale_states`,
  ).toEqual([{ service_id: "svc_a", tenant_id: "tnt_a", is_due: true }]);
  await migrate(database.url); // once more changes nothing
});

it("moves and resizes of the previous release survive as operations", async () => {
  await sql`insert into tenants (id, name, sets_max, cpu_millis_max, memory_bytes_max) values ('tnt_a', 'acme', 100, 100000, 1000000000000)`;
  await sql`insert into hosts (id, name, pool, zone, rack, labels, taints, state, agent_version, credential_hash, lease_expires_at,
      allocatable_cpu_millis, allocatable_memory_bytes, allocatable_volume_bytes, allocatable_rootfs_bytes)
    values ('host_a', 'h1', 'default', 'z', 'r', '{}', '[]', 'ready', '1', 'x', now(), 100000, 100000, 100000, 100000)`;
  await sql`insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost, revision, set_cpu_millis, set_memory_bytes)
    values ('svc_a', 'tnt_a', 'web', 5, 5, 0, '{"antiAffinity": [], "pool": "default", "tolerations": [], "hostLabels": {}}', 'replace', 2, 2000, 2000)`;
  for (const [number, amount] of [
    [1, 1000],
    [2, 2000],
  ] as const) {
    const template = {
      cpuMillis: amount,
      memoryBytes: amount,
      rootfsBytes: 10,
      containers: [{ options: {} }, { options: { logging: { maxSizeBytes: 300, maxFiles: 2 } } }],
      volume: null,
    };
    await sql`insert into revisions (service_id, number, template) values ('svc_a', ${number}, ${JSON.stringify(template)})`;
  }
  const insertSet = (id: string, revision: 1 | 2, columns: Record<string, unknown>) => {
    const row: Record<string, unknown> = {
      id: `set_${id}`,
      tenant_id: "tnt_a",
      service_id: "svc_a",
      revision,
      priority: 0,
      cpu_millis: revision * 1000,
      memory_bytes: revision * 1000,
      volume_bytes: 0,
      rootfs_bytes: 10,
      host_id: "host_a",
      state: "running",
      ready: true,
      ...columns,
    };
    return sql`insert into sets ${sql(row)}`;
  };
  await insertSet("idle", 2, { state: "starting", ready: false });
  await insertSet("leaving", 1, { leaving: true, attempts: 3, state: "failed", ready: false });
  await insertSet("removed", 1, { leaving: true, desired: "deleted", ready: false });
  await insertSet("replaced", 2, { move_revision: 2 });
  await insertSet("replacement", 2, {
    replaces: "set_replaced",
    host_id: null,
    state: "pending",
    ready: false,
  });
  // Revision 2 is the copy of revision 1 with its new size: the previous release resizes like that.
  await insertSet("resized", 2, { sized: false, former_revision: 1 });
  await insertSet("to_grow", 1, {
    move_revision: 2,
    ["held_back"]: JSON.stringify({ code: "move-held", text: "No host fits." }),
  });
  await insertSet("to_move", 1, { move_revision: 1 });
  await migrate(database.url);
  const operations =
    await sql`select set_id, kind, phase, owner, cpu_millis::int, former_cpu_millis::int as former, replacement_set_id as by, blocked->>'code' as blocked
      from operations order by set_id`;
  const none = { cpu_millis: null, former: null, by: null, blocked: null };
  const byUser = { ...none, owner: "person" };
  expect([...operations]).toEqual([
    {
      ...none,
      set_id: "set_leaving",
      kind: "move",
      phase: "leaving",
      owner: "start-failed",
      cpu_millis: 1000,
    },
    { ...byUser, set_id: "set_replaced", kind: "move", phase: "replacing", by: "set_replacement" },
    {
      ...none,
      set_id: "set_resized",
      kind: "resize",
      phase: "applying",
      owner: "resize",
      cpu_millis: 2000,
      former: 1000,
    },
    {
      ...byUser,
      set_id: "set_to_grow",
      kind: "resize",
      phase: "waiting",
      cpu_millis: 2000,
      blocked: "move-held",
    },
    { ...byUser, set_id: "set_to_move", kind: "move", phase: "waiting", cpu_millis: 1000 },
  ]);
  const bytes = sql`overhead_memory_bytes::float8 as memory, overhead_rootfs_bytes::float8 as rootfs`;
  const memory = 3 * 8 * MiB;
  const rootfs = 2 * 20 * MiB + 600;
  expect([...(await sql`select distinct ${bytes} from sets where host_id is not null`)]).toEqual([
    { memory, rootfs },
  ]);
  expect([...(await sql`select ${bytes} from hosts`)]).toEqual([
    { memory: 7 * memory, rootfs: 7 * rootfs },
  ]);
  const ready = await sql`select id from sets where was_ready or ready order by id`;
  expect(ready.map(({ id }) => id as string)).toEqual([
    "set_replaced",
    "set_resized",
    "set_to_grow",
    "set_to_move",
  ]);
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
