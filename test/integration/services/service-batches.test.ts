import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createService } from "../../../src/control/services/create-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import type { Queryable } from "../../../src/db/postgres/open-postgres.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

/** A service of 50 sets or less is inserted together with the others of its tenant. */

let f: FleetContext;
beforeEach(async () => {
  f = await createFleetContext();
});
afterEach(() => f.close());

const create = (name: string, more: object = {}, ctx = f.ctx) =>
  createService(ctx, f.tenantId, serviceBody(name, more));

/** Creates all services concurrently. The codes of the failures are in the order of the names. */
async function createAll(names: readonly string[], ctx = f.ctx): Promise<unknown[]> {
  const outcomes = await Promise.allSettled(
    names.map((name) => create(name, { replicas: 2 }, ctx)),
  );
  return outcomes.map((outcome) =>
    outcome.status === "fulfilled" ? "created" : (outcome.reason as { code?: string }).code,
  );
}

const numbered = (count: number) => Array.from({ length: count }, (_, index) => `web-${index}`);

test("concurrent creations of a tenant share one commit, and each stores its own service", async () => {
  const outcomes = await Promise.all(
    numbered(40).map((name, index) =>
      create(name, { replicas: index % 4, priority: index, placement: { strategy: "spread" } }),
    ),
  );
  const rows = await queryRows<{ name: string; sets: number; priorities: number[]; xmin: string }>(
    f.ctx.db,
    sql`select v.name, count(s.id)::int as sets, array_agg(distinct v.priority) || array_agg(distinct s.priority) filter (where s.id is not null) as priorities,
          min(v.xmin::text) as xmin
        from services v join revisions r on r.service_id = v.id left join sets s on s.service_id = v.id
        group by v.id, v.name`,
  );
  expect(new Set(rows.map(({ xmin }) => xmin)).size).toBe(1);
  const byName = new Map(rows.map((row) => [row.name, row]));
  for (const [index, { service }] of outcomes.entries()) {
    expect(service).toMatchObject({ name: `web-${index}`, counts: { pending: index % 4 } });
    expect(byName.get(service.name)).toMatchObject({ sets: index % 4 });
    expect(new Set(byName.get(service.name)?.priorities)).toEqual(new Set([index]));
  }
  const jobs = await queryRows<{ jobId: string }>(
    f.ctx.db,
    sql`select job_id as "jobId" from outbox where name = 'place-sets' order by id`,
  );
  const placed = outcomes.filter(({ service }) => service.replicas > 0);
  const expected = placed.map(({ service }) => `place:${service.id}:gen1`);
  expect(new Set(jobs.map(({ jobId }) => jobId))).toEqual(new Set(expected));
  expect(f.enqueued).toHaveLength(placed.length);
});

test("a name that is taken fails its own creation only", async () => {
  await create("web-1");
  const outcomes = await createAll([...numbered(4), "web-3", "web-3"]);
  expect(outcomes.slice(0, 3)).toEqual(["created", "already-exists", "created"]);
  const sameName = outcomes.slice(3);
  expect(sameName.filter((outcome) => outcome === "created")).toHaveLength(1);
  expect(sameName.filter((outcome) => outcome === "already-exists")).toHaveLength(2);
});

test("a value that Postgres refuses fails its own creation only", async () => {
  const tooLarge = { ...serviceBody("large"), priority: 2 ** 40 };
  const outcomes = await Promise.allSettled([
    create("web-0"),
    createService(f.ctx, f.tenantId, tooLarge),
    create("web-1"),
  ]);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

test("a batch inserts names in their order, so that two processes do not deadlock", async () => {
  const names = numbered(9);
  expect(await createAll(names.toReversed())).toEqual(names.map(() => "created"));
  const rows = await queryRows<{ name: string }>(
    f.ctx.db,
    sql`select name from services order by ctid`,
  );
  expect(rows.map(({ name }) => name)).toEqual(names);
});

test("a deadlock with another transaction fails no creation", async () => {
  // Postgres checks a wait once, after this time. The batch waits first, and has to find it.
  await f.ctx.db.execute(sql`do $$ begin
    execute format('alter database %I set deadlock_timeout = %L', current_database(), '5s');
  end $$`);
  const creating = f.secondContext();
  const insertName = (tx: Queryable, name: string) =>
    tx.execute(
      sql`insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost)
          values (${`svc_${name}`}, ${f.tenantId}, ${name}, 0, 0, 0, '{}', 'wait') on conflict do nothing`,
    );
  let outcomes: Promise<unknown[]> | undefined;
  await f.ctx.db.transaction(async (tx) => {
    await tx.execute(sql`set local deadlock_timeout = '120s'`);
    await insertName(tx, "web-1");
    outcomes = createAll(numbered(4), creating);
    await waitForLockWait(creating.db, "the batch waits for the name");
    await insertName(tx, "web-0");
  });
  // Either this transaction or the retry of the batch takes the free name first.
  expect(await outcomes).toEqual([
    expect.stringMatching(/^(created|already-exists)$/),
    "already-exists",
    "created",
    "created",
  ]);
});

test("concurrent creations in two processes exceed no quota", async () => {
  const quota = { setsMax: 4_000, cpuMillisMax: 9_000, memoryBytesMax: 2 ** 50 };
  const tenant = await createTenant(f.ctx, tenantBody("small", quota));
  const clients = [f.ctx, f.secondContext()];
  const outcomes = await Promise.allSettled(
    numbered(30).map((name, index) =>
      createService(clients[index % 2] ?? f.ctx, tenant.id, serviceBody(name, { replicas: 2 })),
    ),
  );
  const [usage] = await queryRows<{ cpuMillis: number; each: number }>(
    f.ctx.db,
    sql`select sum(cpu_millis)::int as "cpuMillis", max(cpu_millis)::int as each from sets where tenant_id = ${tenant.id}`,
  );
  expect(usage?.cpuMillis).toBeLessThanOrEqual(9_000);
  expect(usage?.cpuMillis).toBeGreaterThan(9_000 - 2 * (usage?.each ?? 0));
  for (const outcome of outcomes)
    if (outcome.status === "rejected")
      expect(outcome.reason).toMatchObject({ code: "quota-exceeded" });
});

test("I15: a creation that waits for a lock stops no other tenant", async () => {
  const other = await createTenant(
    f.ctx,
    tenantBody("other", { setsMax: 1_000, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 }),
  );
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const second = f.secondContext();
  let isInserted = (): void => undefined;
  const inserted = new Promise<void>((resolve) => (isInserted = resolve));
  const holder = second.db.transaction(async (tx) => {
    await tx.execute(
      sql`insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost)
          values ('svc_holder', ${f.tenantId}, 'taken', 0, 0, 0, '{}', 'wait')`,
    );
    isInserted();
    await released;
  });
  await inserted;
  let isAnswered = false;
  const waiting = create("taken")
    .catch((error: unknown) => error)
    .finally(() => (isAnswered = true));
  try {
    await createService(f.ctx, other.id, serviceBody("web"));
    expect(isAnswered).toBe(false);
  } finally {
    release();
    await holder;
  }
  expect(await waiting).toMatchObject({ code: "already-exists" });
});

test("more creations of a tenant than the bound are answered with overloaded", async () => {
  const outcomes = await createAll(numbered(300));
  expect(outcomes.filter((outcome) => outcome === "created")).toHaveLength(256);
  expect(outcomes.filter((outcome) => outcome === "overloaded")).toHaveLength(44);
});

test("a creation near the quota counts until its own transaction ends, and none exceeds the quota", async () => {
  const quota = { setsMax: 10, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 };
  const tenant = await createTenant(f.ctx, tenantBody("small", quota));
  const outcomes: string[] = [];
  const start = (name: string) =>
    createService(f.ctx, tenant.id, serviceBody(name)).then(
      () => outcomes.push("created"),
      (error: unknown) => outcomes.push((error as { code?: string }).code ?? "unknown"),
    );
  let started: Promise<unknown>[] = [];
  const { db } = f.secondContext(); // the creations may use all connections of the first
  await db.transaction(async (tx) => {
    await tx.execute(sql`select id from tenants where id = ${tenant.id} for no key update`);
    started = numbered(200).map(start);
    await waitForLockWait(db, "a creation waits for the row of its tenant");
    started.push(...numbered(100).map((name) => start(`later-${name}`)));
    await expect.poll(() => outcomes.length, { timeout: 30_000 }).toBe(44);
  });
  await Promise.all(started);
  const countOf = (outcome: string) => outcomes.filter((each) => each === outcome).length;
  expect([countOf("created"), countOf("quota-exceeded"), countOf("overloaded")]).toEqual([
    10, 246, 44,
  ]);
});
