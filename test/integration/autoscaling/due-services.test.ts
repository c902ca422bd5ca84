import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, it } from "vitest";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import {
  evaluateDueServices,
  type DueOutcome,
} from "../../../src/control/autoscaling/evaluate-due-services.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { claimDueServices } from "../../../src/db/queries/autoscaling/states.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { lockTenant } from "../../../src/db/queries/tenancy/tenant-usage.ts";
import { withTx } from "../../../src/db/transaction.ts";
import {
  cpuHigh,
  createAutoscaledService,
  deliverAlerts,
  type AutoscaledService,
} from "../../support/fleet/autoscaled-service.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";
import { waitUntil } from "../../support/wait-until.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

/** The autoscale sweep shares its time between tenants, and retries what changes nothing less. */
let fleet: FleetContext;
beforeAll(async () => {
  fleet = await createFleetContext();
});
afterAll(() => fleet.close());

async function createDue(tenantId: string, name: string, dueSecondsAgo: number): Promise<string> {
  const body = serviceBody(name, { replicas: 0, autoscale: { min: 0, max: 5 } });
  const { service } = await createService(fleet.ctx, tenantId, body);
  await fleet.ctx.db.execute(sql`
    insert into autoscale_states (service_id, due_at) values (${service.id}, now() - make_interval(secs => ${dueSecondsAgo}::float8))
    on conflict (service_id) do update set due_at = excluded.due_at`);
  return service.id;
}

async function listDue(): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    fleet.ctx.db,
    sql`select service_id as id from autoscale_states where due_at <= now()`,
  );
  return rows.map(({ id }) => id);
}

it("the due services of one tenant do not delay those of another", async () => {
  const neighbor = await createTenant(fleet.ctx, tenantBody("neighbor"));
  for (let index = 0; index < 120; index++) await createDue(fleet.tenantId, `busy-${index}`, 60);
  const later = await createDue(neighbor.id, "later", 1);
  await evaluateDueServices(fleet.ctx);
  const due = await listDue();
  expect(due).not.toContain(later);
  expect(due.length).toBeGreaterThan(0);
  for (let round = 0; round < 10; round++) await evaluateDueServices(fleet.ctx);
  expect(await listDue()).toEqual([]);
});

async function isDecided(serviceId: string): Promise<boolean> {
  const rows = await queryRows(
    fleet.ctx.db,
    sql`select 1 from autoscale_states where service_id = ${serviceId} and attempts = 0 and due_at is null`,
  );
  return rows.length === 1;
}

const smallQuota = { setsMax: 4, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 };

async function createLimited(tenantId: string, name: string): Promise<AutoscaledService> {
  const menu = await createAutoscaledService({ ...fleet, tenantId }, name, {
    replicas: 1,
    rules: [{ match: {}, want: { replicas: 10 } }],
  });
  await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
  return menu;
}

it("decisions that wait for a lock delay no decision of another tenant", async () => {
  const { id } = await createTenant(fleet.ctx, tenantBody("waiting", smallQuota));
  await createLimited(id, "first");
  const free = await createDue(fleet.tenantId, "free", 0);
  const other = fleet.secondContext();
  let sweep: Promise<DueOutcome> | undefined;
  await withTx(other.db, async (tx) => {
    await lockTenant(tx, id);
    sweep = evaluateDueServices(fleet.ctx);
    await waitUntil("the decision", () => isDecided(free));
  });
  expect(await sweep).toMatchObject({ evaluated: 2, failed: 0 });
});

it("a decision that a quota limits again and again is retried less often, at least each minute", async () => {
  const tenant = await createTenant(fleet.ctx, tenantBody("small", smallQuota));
  const menu = await createLimited(tenant.id, "limited");
  const decideAfter = async (seconds: number): Promise<number> => {
    await fleet.ctx.db
      .execute(sql`update decisions set at = at - make_interval(secs => ${seconds}::float8)
      where service_id = ${menu.serviceId}`);
    await autoscaleService(fleet.ctx, menu.serviceId);
    const rows = await queryRows<{ seconds: number }>(
      fleet.ctx.db,
      sql`select extract(epoch from due_at - now())::float8 as seconds from autoscale_states where service_id = ${menu.serviceId}`,
    );
    return rows[0]?.seconds ?? 0;
  };
  expect(await decideAfter(0)).toBeLessThanOrEqual(10);
  expect(await menu.desired()).toBe(4);
  expect(await decideAfter(0)).toBeLessThanOrEqual(10);
  const later = await decideAfter(1_000);
  expect(later).toBeGreaterThan(20);
  expect(later).toBeLessThanOrEqual(60);
  expect(await decideAfter(0)).toBeGreaterThan(20);
  // More quota is used at the next decision, and ends the backoff.
  await fleet.ctx.db.execute(sql`update tenants set sets_max = 6 where id = ${tenant.id}`);
  expect(await decideAfter(0)).toBeLessThanOrEqual(10);
  expect(await menu.desired()).toBe(6);
});

it("more than 10,000 due services of one tenant delay no other tenant, and a claim reads few of them", async () => {
  const busy = await createTenant(fleet.ctx, tenantBody("crowded"));
  const other = await createTenant(fleet.ctx, tenantBody("quiet"));
  const template = await createDue(busy.id, "template", 3_600);
  const { db } = fleet.ctx;
  await db.execute(sql`
    insert into services select (jsonb_populate_record(s, jsonb_build_object('id', 'svc_copy_' || n, 'name', 'copy-' || n))).*
    from services s, generate_series(1, 10500) n where s.id = ${template}`);
  // A process of the previous release inserts such rows: they name no tenant.
  await db.execute(sql`
    insert into autoscale_states (service_id, due_at) select id, now() - interval '1 hour' from services where id like 'svc_copy_%'`);
  const quiet = await createDue(other.id, "quiet", 1);
  await db.execute(sql`analyze autoscale_states`);
  await withTx(db, async (tx) => {
    const before = await rowsReadOf(tx, "autoscale_states");
    const claimed = await claimDueServices(tx, 50, 30);
    expect(claimed).toHaveLength(50);
    expect(claimed.map(({ serviceId }) => serviceId)).toContain(quiet);
    expect((await rowsReadOf(tx, "autoscale_states")) - before).toBeLessThan(3_000);
  });
});

it("a sweep ends after all of its evaluations, even if it cannot postpone a failed one", async () => {
  // Services of the other tests are due, too.
  await fleet.ctx.db.execute(sql`update autoscale_states set due_at = null`);
  const broken = await createDue(fleet.tenantId, "not-postponed", 60);
  const others: string[] = [];
  for (let index = 0; index < 20; index++)
    others.push(await createDue(fleet.tenantId, `sound-${index}`, 30));
  // A claim counts an attempt. Each other change of the broken service's row fails.
  await fleet.ctx.db.execute(sql`create function refuse_change() returns trigger language plpgsql
    as $$ begin raise exception 'the row is broken'; end $$`);
  await fleet.ctx.db.execute(
    sql.raw(`create trigger refuse_change before update on autoscale_states for each row
    when (old.service_id = '${broken}' and new.attempts <> old.attempts + 1) execute function refuse_change()`),
  );
  await fleet.ctx.db.execute(
    sql`update services set autoscale = autoscale || '{"min": 9, "max": 8}' where id = ${broken}`,
  );
  expect(await evaluateDueServices(fleet.ctx)).toMatchObject({ evaluated: 20, failed: 1 });
  for (const serviceId of others) expect(await isDecided(serviceId)).toBe(true);
  await fleet.ctx.db.execute(sql`drop trigger refuse_change on autoscale_states`);
});
