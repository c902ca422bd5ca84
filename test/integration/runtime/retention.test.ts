import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createToken } from "../../../src/control/tenancy/create-token.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { authenticate } from "../../../src/control/tenancy/authenticate.ts";
import { ensureBootstrap } from "../../../src/control/tenancy/bootstrap.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { revokeToken } from "../../../src/control/tenancy/revoke-token.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { createRetention } from "../../../src/control/events/retention.ts";
import {
  cpuHigh,
  createAutoscaledService,
  deliverAlerts,
} from "../../support/fleet/autoscaled-service.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";

const DAY_MS = 86_400_000;
let f: FleetContext;
let hostId: string;

beforeAll(async () => {
  f = await createFleetContext({ deletedRetentionMs: 30 * DAY_MS });
  hostId = await f.enroll("h1");
});
afterAll(() => f.close());

const tables = [
  "sets",
  "placements",
  "rejections",
  "services",
  "revisions",
  "hooks",
  "demands",
  "decisions",
  "tokens",
];

async function countRows(): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const table of tables) {
    const rows = await queryRows<{ count: number }>(
      f.ctx.db,
      sql`select count(*)::int as count from ${sql.raw(table)}`,
    );
    counts[table] = rows[0]?.count ?? -1;
  }
  return counts;
}

/** Shifts all rows into the past by this number of days. */
async function passDays(days: number): Promise<void> {
  const past = (columns: string[]) =>
    sql.raw(columns.map((column) => `${column} = ${column} - interval '${days} days'`).join(", "));
  for (const [table, columns] of [
    ["sets", ["deleted_at"]],
    ["placements", ["created_at"]],
    ["services", ["deleted_at"]],
    ["revisions", ["created_at"]],
    ["hooks", ["deleted_at"]],
    ["tokens", ["revoked_at", "expires_at", "used_at"]],
  ] as const)
    await f.ctx.db.execute(sql`update ${sql.raw(table)} set ${past([...columns])}`);
}

async function sweepAll(): Promise<void> {
  const retention = createRetention(f.ctx);
  while ((await retention.run()).deleted > 0);
}

async function follow(): Promise<void> {
  await f.placer.placeSets();
  const { sets } = await f.sync(hostId, { full: true });
  await f.sync(hostId, {
    observed: sets.map((set) => observed(set, set.desired === "deleted" ? "absent" : "running")),
  });
}

test("deleted resources and their rows are deleted after the retention time, and not earlier", async () => {
  const admin = {
    tokenId: "tok_x",
    role: "admin" as const,
    tenantId: null,
    hookId: null,
    pool: null,
  };
  const before = await countRows();
  const menu = await createAutoscaledService(f, "old-service", { replicas: 2 });
  await deliverAlerts(f.ctx, menu.hookId, [cpuHigh()]);
  await menu.runJobs();
  await follow();
  const { token } = await createToken(f.ctx, admin, { name: "short", role: "read" });
  await revokeToken(f.ctx, token.id);
  await deleteService(f.ctx, f.tenantId, "old-service", undefined);
  await follow();
  await closeServices(f.ctx);
  const deletedRows = await countRows();
  await passDays(29);
  await sweepAll();
  expect(await countRows()).toEqual(deletedRows);
  await passDays(2);
  await sweepAll();
  // The enroll token of the host was used as long ago, so it is deleted too.
  expect(await countRows()).toEqual({ ...before, tokens: (before["tokens"] ?? 0) - 1 });
});

test("retention deletes superseded placements and unused old revisions of a live service", async () => {
  await createService(f.ctx, f.tenantId, serviceBody("lives"));
  await follow();
  const { template } = serviceBody("lives");
  const patch = (generation: number, somaxconn: string) =>
    patchService(f.ctx, f.tenantId, "lives", generation, {
      template: { ...template, sysctls: { "net.core.somaxconn": somaxconn } },
      adopt: "new-sets",
    });
  await patch(1, "1100");
  await patch(2, "1200");
  await scaleService(f.ctx, f.tenantId, "lives", { replicas: 2 }, undefined);
  await f.placer.placeSets();
  await f.ctx.db.execute(sql`
    insert into placements (id, set_id, host_id, generation, policy_version, score, because)
    select 'plc_0' || n || id, id, host_id, 0, 1, 0, '{}' from sets, generate_series(1, 3) n where host_id is not null and revision = 1`);
  const numbers = async (): Promise<number[]> => {
    await sweepAll();
    const rows = await queryRows<{ number: number }>(
      f.ctx.db,
      sql`select number from revisions order by number`,
    );
    return rows.map(({ number }) => number);
  };
  await passDays(31);
  // An operation gives it to a set.
  await f.ctx.db
    .execute(sql`insert into operations (set_id, service_id, kind, phase, owner, to_revision)
      select id, service_id, 'update', 'waiting', 'rollout', 2 from sets where revision = 1`);
  expect(await numbers()).toEqual([1, 2, 3]);
  await f.ctx.db.execute(sql`delete from operations`);
  expect(await numbers()).toEqual([1, 3]); // 1 has a set, 3 is the current one
  expect((await countRows())["placements"]).toBe(2);
});

test("an admin's revoked secret stays refused after the retention time", async () => {
  const adminSecret = "brt_an-admin-secret-that-was-revoked";
  await ensureBootstrap(f.ctx, { adminSecret });
  await f.ctx.db.execute(sql`update tokens set revoked_at = now() where role = 'admin'`);
  await passDays(400);
  await sweepAll();
  await ensureBootstrap(f.ctx, { adminSecret });
  expect(await authenticate(f.ctx, adminSecret)).toBeUndefined();
});

test("a retention step that fails stops no other", async () => {
  const { db } = f.ctx;
  await db.execute(sql`
    insert into idempotency_keys (scope, key, request_hash, status, body, created_at)
    values ('tok_x', 'old', 'hash', 200, '', now() - interval '2 days')`);
  await db.execute(sql`
    insert into events (kind, text, at) values ('host-ready', 'old', now() - interval '30 days')`);
  await db.execute(sql`alter table idempotency_keys rename to idempotency_keys_away`);
  const outcome = await createRetention(f.ctx).run();
  await db.execute(sql`alter table idempotency_keys_away rename to idempotency_keys`);
  expect(outcome.failed).toEqual(["idempotency-keys"]);
  const events = await queryRows(db, sql`select 1 from events where text = 'old'`);
  expect(events).toEqual([]);
});

test("retention of events reads one page of the oldest ids, for any number of young events", async () => {
  const { db } = f.ctx;
  await db.execute(
    sql`insert into events (kind, text) select 'host-ready', 'young' from generate_series(1, 50000)`,
  );
  await db.execute(sql`analyze events`);
  const plan = await queryRows<{ "QUERY PLAN": { Plan: unknown }[] }>(
    db,
    sql`explain (analyze, format json) delete from events where id in (select id from events order by id limit 100)
          and at < now() - interval '14 days'`,
  );
  const rowsRead = [...JSON.stringify(plan).matchAll(/"Actual Rows":(\d+)/g)].map((match) =>
    Number(match[1]),
  );
  expect(Math.max(...rowsRead)).toBeLessThanOrEqual(100);
});

test("superseded placements are found behind pages of placements that stay", async () => {
  const { db } = f.ctx;
  await createService(f.ctx, f.tenantId, serviceBody("pages"));
  await db.execute(sql`
    insert into placements (id, set_id, host_id, generation, policy_version, score, because, created_at)
    select 'plc_1' || lpad(n::text, 6, '0'), 'set_stays_' || n, ${hostId}, 0, 1, 0, '{}', now() - interval '60 days'
    from generate_series(1, 6000) n`);
  await db.execute(sql`
    insert into placements (id, set_id, host_id, generation, policy_version, score, because, created_at)
    select 'plc_2' || n, 'set_moved', ${hostId}, 0, 1, 0, '{}', now() - interval '60 days' from generate_series(1, 3) n`);
  await createRetention(f.ctx).run();
  const left = await queryRows<{ id: string }>(
    db,
    sql`select id from placements where set_id = 'set_moved'`,
  );
  expect(left).toEqual([{ id: "plc_23" }]);
});
