import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decisionSchema, demandSchema } from "../../../src/contracts/api/autoscaling.ts";
import { jobPayloads } from "../../../src/contracts/jobs.ts";
import { sql } from "drizzle-orm";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { listDecisions } from "../../../src/control/autoscaling/list-decisions.ts";
import { listEvents } from "../../../src/control/events/list-events.ts";
import { DEMANDS_HELD_MAX } from "../../../src/control/autoscaling/receive-alerts.ts";
import { releaseDemand } from "../../../src/control/autoscaling/release-demand.ts";
import { evaluateDueServices } from "../../../src/control/autoscaling/evaluate-due-services.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { createRetention } from "../../../src/control/events/retention.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  cpuHigh,
  createAutoscaledService,
  deliverAlerts,
  endStabilization,
  makeDue,
} from "../../support/fleet/autoscaled-service.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

let fleet: FleetContext;
let nameCount = 0;
const newName = () => `menu-${++nameCount}`;

beforeAll(async () => {
  fleet = await createFleetContext();
});
afterAll(() => fleet.close());
beforeEach(() => {
  fleet.enqueued.length = 0;
});

const resolved = () => cpuHigh({ status: "resolved", endsAt: "2026-01-05T03:10:00Z" });
describe("an alert", () => {
  it("scales a service out while it fires, and in after its stabilization window", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    expect(await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()])).toEqual({
      accepted: 1,
      ignored: 0,
    });
    await menu.runJobs();
    expect([await menu.desired(), await menu.setsCount()]).toEqual([5, 5]);

    await deliverAlerts(fleet.ctx, menu.hookId, [resolved()]);
    await menu.runJobs();
    expect([await menu.desired(), await menu.setsCount()]).toEqual([5, 5]);
    await evaluateDueServices(fleet.ctx);
    expect(await menu.desired()).toBe(5);

    await endStabilization(fleet.ctx, menu.serviceId);
    expect(await evaluateDueServices(fleet.ctx)).toMatchObject({ scaled: 1, failed: 0 });
    expect([await menu.desired(), await menu.setsCount()]).toEqual([3, 3]);
    const { items } = await menu.demands();
    expect(items.map((demand) => demand.state)).toEqual(["released"]);
  });

  it("enqueues a job whose id names the change and whose payload fits the contract", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    fleet.enqueued.length = 0;
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    const { items } = await menu.demands();
    expect(fleet.enqueued.map((job) => job.jobId)).toEqual([
      `autoscale:${menu.serviceId}:${items[0]?.id}-firing`,
    ]);
    expect(jobPayloads["autoscale-service"].parse(fleet.enqueued[0]?.payload)).toEqual({
      serviceId: menu.serviceId,
    });
  });

  it("a repeated delivery writes no demand, no decision, no event and no job", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    const receipt = await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    const before = await countRows();
    fleet.enqueued.length = 0;
    for (let time = 0; time < 3; time++) {
      expect(await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()])).toEqual(receipt);
    }
    expect(fleet.enqueued).toEqual([]);
    await autoscaleService(fleet.ctx, menu.serviceId);
    expect(await countRows()).toEqual(before);
  });

  it("a second `resolved` neither reopens an ended alert nor extends its stabilization window", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await deliverAlerts(fleet.ctx, menu.hookId, [resolved()]);
    const [first] = (await menu.demands()).items;
    await deliverAlerts(fleet.ctx, menu.hookId, [resolved(), cpuHigh()]);
    expect((await menu.demands()).items).toEqual([first]);
    expect(first?.state).toBe("resolved");
  });

  it("an alert that fires again with its old start, long after it resolved, counts until it resolves again", async () => {
    const menu = await createAutoscaledService(fleet, newName(), { stabilizationSeconds: 0 });
    const passMinutes = (minutes: number) =>
      fleet.ctx.db
        .execute(sql`update demands set resolved_at = resolved_at - make_interval(mins => ${minutes}::int)
        where service_id = ${menu.serviceId}`);
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await deliverAlerts(fleet.ctx, menu.hookId, [resolved()]);
    await evaluateDueServices(fleet.ctx);
    await menu.runJobs();
    expect(await menu.desired()).toBe(3);
    await passMinutes(1);
    expect(await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()])).toMatchObject({ ignored: 1 });
    await passMinutes(5);
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    expect(await menu.desired()).toBe(5);
    expect((await menu.demands()).items).toMatchObject([
      { state: "firing", resolvedAt: null, releaseAt: null, wantedReplicas: 5 },
    ]);
    await deliverAlerts(fleet.ctx, menu.hookId, [resolved()]);
    await evaluateDueServices(fleet.ctx);
    await menu.runJobs();
    expect(await menu.desired()).toBe(3);
  });

  it("a demand that a user released stays released while its alert fires", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    const [demand] = (await menu.demands()).items;
    await releaseDemand(fleet.ctx, fleet.tenantId, menu.name, demand?.id ?? "");
    await fleet.ctx.db.execute(sql`update demands set release_at = release_at - interval '1 hour'
      where service_id = ${menu.serviceId}`);
    expect(await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()])).toMatchObject({ ignored: 1 });
    expect((await menu.demands()).items).toMatchObject([{ state: "released" }]);
  });

  it("an alert whose `resolved` arrives before its `firing` raises no demand", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    expect(await deliverAlerts(fleet.ctx, menu.hookId, [resolved()])).toEqual({
      accepted: 0,
      ignored: 1,
    });
    expect(await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()])).toEqual({
      accepted: 0,
      ignored: 1,
    });
    expect(fleet.enqueued.filter((job) => job.name === "autoscale-service")).toEqual([]);
    await autoscaleService(fleet.ctx, menu.serviceId);
    expect(await menu.desired()).toBe(3);
  });

  it("an alert without a matching rule is counted as ignored", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    const other = cpuHigh({ key: "other", labels: { alertname: "DiskFull" } });
    expect(await deliverAlerts(fleet.ctx, menu.hookId, [other, cpuHigh()])).toEqual({
      accepted: 1,
      ignored: 1,
    });
    expect((await menu.demands()).items).toHaveLength(1);
  });

  it("adds its step to the base of its rule, whether or not the job of an earlier alert has run", async () => {
    for (const runsBetween of [false, true]) {
      const menu = await createAutoscaledService(fleet, newName());
      await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
      if (runsBetween) await menu.runJobs();
      await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh({ key: "second" })]);
      await menu.runJobs();
      expect(await menu.desired()).toBe(5);
    }
  });

  it("the steps of several rules add to one base, and an absolute demand raises that base", async () => {
    const menu = await createAutoscaledService(fleet, newName(), {
      rules: [
        { match: { alertname: "CpuHigh" }, want: { step: 2 } },
        { match: { alertname: "QueueLong" }, want: { factor: 2 } },
        { match: { alertname: "SaleBegins" }, want: { replicas: 8 } },
      ],
    });
    const fire = async (alertname: string) => {
      const labels = { alertname };
      await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh({ key: alertname, labels })]);
      await menu.runJobs();
      return menu.desired();
    };
    expect([await fire("CpuHigh"), await fire("QueueLong")]).toEqual([5, 6]);
    expect(await fire("SaleBegins")).toBe(16);
    const { items } = await menu.demands();
    const sizes = items.map((one) => `${one.key} ${one.baseReplicas} ${one.wantedReplicas}`);
    expect(sizes.toSorted()).toEqual(["CpuHigh 8 10", "QueueLong 8 16", "SaleBegins 8 8"]);
  });

  it("never takes a service beyond its bounds, and a wider bound takes effect for a held demand", async () => {
    const menu = await createAutoscaledService(fleet, newName(), {
      max: 8,
      rules: [{ match: {}, want: { replicas: 12 } }],
    });
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    expect(await menu.desired()).toBe(8);
    const { items } = await menu.decisions();
    expect(items[0]).toMatchObject({ fromReplicas: 3, toReplicas: 8, acted: true });
    expect(items[0]?.because.at(-1)).toBe("autoscale.max is 8");
    const generation = items[0]?.generation ?? 0;
    const wider = { autoscale: { min: 1, max: 10, metrics: [] } };
    await patchService(fleet.ctx, fleet.tenantId, menu.name, generation, wider);
    expect(await menu.desired()).toBe(10);
  });

  it("a resolved alert changes no size while Berth holds its demand, and stores its decision once", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    await scaleService(fleet.ctx, fleet.tenantId, menu.name, { replicas: 9 }, undefined);
    await deliverAlerts(fleet.ctx, menu.hookId, [resolved()]);
    await menu.runJobs();
    await autoscaleService(fleet.ctx, menu.serviceId);
    const { items } = await menu.decisions();
    expect(items.map(({ acted, toReplicas }) => [acted, toReplicas])).toEqual([
      [false, 11],
      [true, 5],
    ]);
    expect(items[0]?.because[0]).toMatch(
      /^alert CpuHigh \(9f2a61c7…\) .* resolved; Berth holds 11 until/,
    );
  });

  it("holds a service above what users scale it to", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    const { effects } = await scaleService(
      fleet.ctx,
      fleet.tenantId,
      menu.name,
      { replicas: 2 },
      undefined,
    );
    expect(await menu.desired()).toBe(4);
    expect(effects.join("\n")).toContain("alert CpuHigh");
  });

  it("holds its demand while its sender is silent (I12), until a user releases it", async () => {
    const menu = await createAutoscaledService(fleet, newName(), { stabilizationSeconds: 0 });
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    await fleet.ctx.db.execute(sql`update demands set created_at = created_at - interval '1 year',
      started_at = started_at - interval '1 year' where service_id = ${menu.serviceId}`);
    await evaluateDueServices(fleet.ctx);
    await autoscaleService(fleet.ctx, menu.serviceId);
    expect(await menu.desired()).toBe(5);

    const [held] = (await menu.demands()).items;
    const released = await releaseDemand(fleet.ctx, fleet.tenantId, menu.name, held?.id ?? "");
    expect(demandSchema.parse(released)).toMatchObject({ state: "released" });
    await menu.runJobs();
    expect(await menu.desired()).toBe(3);
    expect(await releaseDemand(fleet.ctx, fleet.tenantId, menu.name, held?.id ?? "")).toEqual(
      released,
    );
  });

  it("an alert with hostile text and extreme times is stored as far as possible", async () => {
    const menu = await createAutoscaledService(fleet, newName(), {
      rules: [{ match: {}, want: { step: 1 } }],
    });
    const labels = JSON.parse('{"alertname":"a\\u0000b\\ud800","__proto__":"x","constructor":"y"}');
    const alerts = [
      "0000-01-01T00:00:00Z",
      "9999-12-31T23:59:59-12:00",
      "2026-01-05T03:00:00.123456789Z",
    ].map((startsAt, index) => cpuHigh({ key: `k${index}\0`, startsAt, labels }));
    expect(await deliverAlerts(fleet.ctx, menu.hookId, alerts)).toEqual({
      accepted: 3,
      ignored: 0,
    });
    expect(await deliverAlerts(fleet.ctx, menu.hookId, alerts)).toEqual({
      accepted: 3,
      ignored: 0,
    });
    await menu.runJobs();
    const { items } = await menu.demands();
    expect(items.map((demand) => demandSchema.parse(demand))).toHaveLength(3);
    expect(await menu.desired()).toBe(4);
  });
});

describe("a thousand concurrent alerts", () => {
  it("need one delivery, one transaction and one job", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    const alerts = Array.from({ length: 1_000 }, (_, index) =>
      cpuHigh({ key: `key-${index}`, labels: { alertname: "CpuHigh", instance: `i${index}` } }),
    );
    fleet.enqueued.length = 0;
    expect(await deliverAlerts(fleet.ctx, menu.hookId, alerts)).toEqual({
      accepted: 1_000,
      ignored: 0,
    });
    expect(fleet.enqueued).toHaveLength(1);
    await menu.runJobs();
    expect(await menu.desired()).toBe(5);
    const [decision] = (await menu.decisions()).items;
    expect(decision?.because[0]).toMatch(
      /^alert CpuHigh \(key-\d+\) and 999 more of its rule on hook web-alerts request 5 since 2026/,
    );
  });
});

it("ignores demands above the maximum of a service, and retains the existing ones", async () => {
  const menu = await createAutoscaledService(fleet, newName());
  const deliver = (delivery: number, count: number) =>
    deliverAlerts(
      fleet.ctx,
      menu.hookId,
      Array.from({ length: count }, (_, index) => cpuHigh({ key: `${delivery}-${index}` })),
    );
  expect(await deliver(0, DEMANDS_HELD_MAX + 1)).toEqual({
    accepted: DEMANDS_HELD_MAX,
    ignored: 1,
  });
  expect(await deliver(10, 3)).toEqual({ accepted: 0, ignored: 3 });
  expect(await deliver(0, 3)).toEqual({ accepted: 3, ignored: 0 });
});

describe("a sweep", () => {
  it("decides for services whose job was lost with Redis (I1)", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    fleet.enqueued.length = 0;
    await fleet.ctx.db.execute(sql`delete from outbox`);
    expect((await evaluateDueServices(fleet.ctx)).scaled).toBeGreaterThanOrEqual(1);
    expect(await menu.desired()).toBe(5);
  });

  it("finds nothing to do if no service is due", async () => {
    await drainSweep();
    const before = await countRows();
    expect(await evaluateDueServices(fleet.ctx)).toEqual({ evaluated: 0, scaled: 0, failed: 0 });
    expect(await countRows()).toEqual(before);
  });

  it("deletes demands and decisions after their retention, but never a held demand", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh(), cpuHigh({ key: "old" })]);
    await menu.runJobs();
    const { items } = await menu.demands();
    await releaseDemand(
      fleet.ctx,
      fleet.tenantId,
      menu.name,
      items.find((one) => one.key === "old")?.id ?? "",
    );
    await fleet.ctx.db.execute(sql`update demands set started_at = started_at - interval '1 year',
      release_at = release_at - interval '31 days' where service_id = ${menu.serviceId}`);
    await fleet.ctx.db.execute(
      sql`update decisions set at = at - interval '91 days' where service_id = ${menu.serviceId}`,
    );
    await createRetention(fleet.ctx).run();
    expect((await menu.demands()).items.map((demand) => demand.key)).toEqual([cpuHigh().key]);
    expect((await menu.decisions()).items).toEqual([]);
  });
});

describe("a tenant's quota", () => {
  it("limits the requests of alerts, and a later decision uses quota that became free", async () => {
    const quota = { setsMax: 6, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 };
    const tenant = await createTenant(fleet.ctx, tenantBody("small", quota));
    const small = { ...fleet, tenantId: tenant.id };
    const other = newName();
    await createService(fleet.ctx, tenant.id, serviceBody(other, { replicas: 2 }));
    const menu = await createAutoscaledService(small, newName(), {
      replicas: 1,
      rules: [{ match: {}, want: { replicas: 10 } }],
    });
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    expect([await menu.desired(), await menu.setsCount()]).toEqual([4, 4]);
    const [decision] = (await menu.decisions()).items;
    expect(decision?.because.at(-1)).toBe("the tenant's quota allows 4 sets of this service");
    await scaleService(fleet.ctx, tenant.id, other, { replicas: 0 }, undefined);
    await makeDue(fleet.ctx, menu.serviceId);
    await evaluateDueServices(fleet.ctx);
    expect(await menu.desired()).toBe(6);
  });
});

describe("decisions", () => {
  it("come in pages, newest first, in the shape of the contract", async () => {
    const wants = { a: 5, b: 7, c: 9 };
    const menu = await createAutoscaledService(fleet, newName(), {
      rules: Object.entries(wants).map(([name, replicas]) => ({
        match: { name },
        want: { replicas },
      })),
    });
    for (const name of Object.keys(wants)) {
      await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh({ key: name, labels: { name } })]);
      await menu.runJobs();
    }
    const { items } = await menu.decisions();
    expect(items.map((one) => decisionSchema.parse(one).toReplicas)).toEqual([9, 7, 5]);
    const query = { service: menu.name, limit: 2 };
    const first = await listDecisions(fleet.ctx, null, query);
    const second = await listDecisions(fleet.ctx, null, {
      ...query,
      cursor: first.nextCursor ?? "",
    });
    expect([...first.items, ...second.items]).toEqual(items);
    expect(second.nextCursor).toBeNull();
    const events = await listEvents(fleet.ctx, fleet.tenantId, { service: menu.name, limit: 50 });
    expect(events.items.filter((event) => event.kind === "decision-made")).toHaveLength(3);
    const raised = events.items.filter((event) => event.kind === "demand-raised");
    expect(raised.map((event) => event.text)).toEqual([
      "Alert c of hook web-alerts fires and requests 9 sets.",
      "Alert b of hook web-alerts fires and requests 7 sets.",
      "Alert a of hook web-alerts fires and requests 5 sets.",
    ]);
  });
});

async function countRows(): Promise<Record<string, number> | undefined> {
  const rows = await queryRows<Record<string, number>>(
    fleet.ctx.db,
    sql`select (select count(*)::int from demands) as demands, (select count(*)::int from decisions) as decisions,
          (select count(*)::int from events) as events, (select count(*)::int from outbox) as outbox`,
  );
  return rows[0];
}

/**
 * Runs the sweep until no service is due, because other tests of this file may leave due services.
 */
async function drainSweep(): Promise<void> {
  for (let round = 0; round < 50; round++) {
    if ((await evaluateDueServices(fleet.ctx)).evaluated === 0) return;
  }
  throw new Error("the sweep did not come to an end in 50 rounds");
}
