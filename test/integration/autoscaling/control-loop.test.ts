import { sql } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { HookRule } from "../../../src/contracts/api/autoscaling.ts";
import {
  auditDueServices,
  evaluateDueServices,
} from "../../../src/control/autoscaling/evaluate-due-services.ts";
import { RELEASED_PER_HOOK_MAX } from "../../../src/control/autoscaling/receive-alerts.ts";
import { listEvents } from "../../../src/control/events/list-events.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import {
  cpuHigh,
  createAutoscaledService,
  deliverAlerts,
  type AutoscaledService,
  endStabilization,
  passSeconds,
} from "../../support/fleet/autoscaled-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";

/**
 * The steps of the control loop: steps out, steps in, and demands that deliveries no longer
 * mention.
 */
let fleet: FleetContext;
let nameCount = 0;
const newName = () => `loop-${++nameCount}`;

beforeAll(async () => {
  fleet = await createFleetContext();
});
afterAll(() => fleet.close());
beforeEach(() => {
  fleet.enqueued.length = 0;
});

const resolved = (key: string) => cpuHigh({ key, status: "resolved" });

async function passAndDecide(menu: AutoscaledService, seconds: number): Promise<number> {
  await passSeconds(fleet.ctx, menu.serviceId, seconds);
  await evaluateDueServices(fleet.ctx);
  return menu.desired();
}

describe("scale-in", () => {
  const rules: HookRule[] = [
    { match: { alertname: "CpuHigh" }, want: { replicas: 12 } },
    { match: { alertname: "QueueLong" }, want: { replicas: 7 } },
  ];
  const scaleIn = { step: 4, everySeconds: 60 };
  const queueLong = cpuHigh({ key: "queue", labels: { alertname: "QueueLong" } });

  async function createScalingIn(): Promise<AutoscaledService> {
    const menu = await createAutoscaledService(fleet, newName(), { rules, scaleIn });
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    expect(await menu.desired()).toBe(12);
    await deliverAlerts(fleet.ctx, menu.hookId, [resolved(cpuHigh().key)]);
    await endStabilization(fleet.ctx, menu.serviceId);
    await evaluateDueServices(fleet.ctx);
    return menu;
  }

  it("removes one step each period after the demand's release, down to the replicas", async () => {
    const menu = await createScalingIn();
    expect([await menu.desired(), await menu.setsCount()]).toEqual([8, 8]);
    expect(await passAndDecide(menu, 59)).toBe(8);
    expect(await passAndDecide(menu, 1)).toBe(4);
    expect(await passAndDecide(menu, 60)).toBe(3);
    const [last, , first] = (await menu.decisions()).items.filter(({ acted }) => acted);
    expect(first?.because).toContain("scale-in to 3 removes at most 4 every 60 s");
    expect([last?.fromReplicas, last?.toReplicas]).toEqual([4, 3]);
  });

  it("evaluates the service before each step: an alert that fires meanwhile stops the scale-in", async () => {
    const menu = await createScalingIn();
    await deliverAlerts(fleet.ctx, menu.hookId, [queueLong]);
    expect(await passAndDecide(menu, 60)).toBe(7);
    expect(await passAndDecide(menu, 60)).toBe(7);
  });

  it("continues step by step if users change the replicas meanwhile", async () => {
    const menu = await createScalingIn();
    await scaleService(fleet.ctx, fleet.tenantId, menu.name, { replicas: 2 }, undefined);
    expect(await menu.desired()).toBe(8);
    expect(await passAndDecide(menu, 60)).toBe(4);
    expect(await passAndDecide(menu, 60)).toBe(2);
  });

  it("a scale-in by a user takes effect immediately", async () => {
    const menu = await createAutoscaledService(fleet, newName(), { rules, scaleIn, replicas: 12 });
    await scaleService(fleet.ctx, fleet.tenantId, menu.name, { replicas: 2 }, undefined);
    expect([await menu.desired(), await menu.setsCount()]).toEqual([2, 2]);
  });
});

describe("a further step", () => {
  const stacking: HookRule[] = [{ match: {}, want: { step: 2, stacks: true } }];
  const scaleOut = { cooldownSeconds: 60 };
  const fire = async (menu: AutoscaledService, key: string) => {
    const labels = { instance: key };
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh({ key, labels })]);
    await menu.runJobs();
    return menu.desired();
  };

  it("a step of another alert waits until the sets of the last step are ready", async () => {
    const menu = await createAutoscaledService(fleet, newName(), { rules: stacking, scaleOut });
    expect([await fire(menu, "a"), await fire(menu, "b")]).toEqual([5, 5]);
    expect((await menu.decisions()).items[0]?.because.at(-1)).toBe(
      "the step to 7 waits until 5 sets are ready or the cooldown ends",
    );
    await fleet.ctx.db.execute(
      sql`update sets set ready = true where service_id = ${menu.serviceId}`,
    );
    expect(await passAndDecide(menu, 3)).toBe(7);
  });

  it("follows without ready sets once the cooldown is over", async () => {
    const menu = await createAutoscaledService(fleet, newName(), { rules: stacking, scaleOut });
    expect([await fire(menu, "a"), await fire(menu, "b")]).toEqual([5, 5]);
    expect(await passAndDecide(menu, 50)).toBe(5);
    expect(await passAndDecide(menu, 11)).toBe(7);
  });

  it("a rule with everySeconds takes further steps while it fires, but not while it only holds", async () => {
    const rules: HookRule[] = [{ match: {}, want: { step: 2, everySeconds: 120 } }];
    const menu = await createAutoscaledService(fleet, newName(), { rules, max: 8 });
    expect(await fire(menu, "a")).toBe(5);
    expect(await passAndDecide(menu, 60)).toBe(5);
    expect(await passAndDecide(menu, 60)).toBe(7);
    await deliverAlerts(fleet.ctx, menu.hookId, [resolved("a")]);
    await menu.runJobs();
    expect(await passAndDecide(menu, 200)).toBe(7);
    await deliverAlerts(fleet.ctx, menu.hookId, [
      cpuHigh({ key: "a", startsAt: "2026-01-06T00:00:00Z" }),
    ]);
    await menu.runJobs();
    expect(await menu.desired()).toBe(7);
    expect(await passAndDecide(menu, 120)).toBe(8);
    expect(await passAndDecide(menu, 500)).toBe(8);
  });
});

describe("a demand that no delivery mentions", () => {
  const rules: HookRule[] = [
    { match: { alertname: "CpuHigh" }, want: { replicas: 12 }, holdMaxSeconds: 600 },
  ];
  const silence = async (menu: AutoscaledService, seconds: number) => {
    await fleet.ctx.db
      .execute(sql`update demands set last_received_at = last_received_at - make_interval(secs => ${seconds}::float8)
      where service_id = ${menu.serviceId}`);
    return passAndDecide(menu, seconds);
  };

  it("is released in steps after holdMaxSeconds, with an event, and held again when a delivery mentions its alert", async () => {
    const scaleIn = { step: 4, everySeconds: 60 };
    const menu = await createAutoscaledService(fleet, newName(), { rules, scaleIn });
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    expect(await silence(menu, 590)).toBe(12);
    expect(await silence(menu, 11)).toBe(8);
    const query = { service: menu.name, kind: "demand-stale" as const, limit: 10 };
    const events = await listEvents(fleet.ctx, fleet.tenantId, query);
    expect(events.items).toMatchObject([{ kind: "demand-stale" }]);
    expect(await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()])).toMatchObject({ accepted: 1 });
    await menu.runJobs();
    expect(await menu.desired()).toBe(12);
  });

  it("stays as long as deliveries mention its alert", async () => {
    const menu = await createAutoscaledService(fleet, newName(), { rules });
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    for (let time = 0; time < 3; time++) {
      expect(await silence(menu, 400)).toBe(12);
      await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    }
    const [demand] = (await menu.demands()).items;
    expect(Date.now() - Date.parse(demand?.lastReceivedAt ?? "")).toBeLessThan(60_000);
  });
});

it("a sender of invented `resolved` alerts fills no table: a hook has a bounded number of released demands", async () => {
  const menu = await createAutoscaledService(fleet, newName());
  for (let delivery = 0; delivery < 7; delivery++) {
    const alerts = Array.from({ length: 1_500 }, (_, index) => resolved(`${delivery}-${index}`));
    expect(await deliverAlerts(fleet.ctx, menu.hookId, alerts)).toEqual({
      accepted: 0,
      ignored: 1_500,
    });
  }
  const rows = await queryRows<{ count: number }>(
    fleet.ctx.db,
    sql`select count(*)::int as count from demands where service_id = ${menu.serviceId}`,
  );
  expect(rows[0]?.count).toBe(RELEASED_PER_HOOK_MAX);
  expect(await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()])).toMatchObject({ accepted: 1 });
});

it("a service that fails does not stop the sweep, and the sweep retries it later", async () => {
  const [broken, sound] = [
    await createAutoscaledService(fleet, newName()),
    await createAutoscaledService(fleet, newName()),
  ];
  for (const menu of [broken, sound]) {
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
  }
  const bounds = (min: number, max: number) =>
    fleet.ctx.db
      .execute(sql`update services set autoscale = autoscale || ${JSON.stringify({ min, max })}::jsonb
      where id = ${broken.serviceId}`);
  await bounds(9, 8);
  expect(await evaluateDueServices(fleet.ctx)).toMatchObject({ failed: 1 });
  expect([await broken.desired(), await sound.desired()]).toEqual([3, 5]);
  expect(await evaluateDueServices(fleet.ctx)).toMatchObject({ failed: 0 });
  await bounds(1, 9);
  expect(await passAndDecide(broken, 2)).toBe(5);
});

it("a demand that a process of an older release resolved is released", async () => {
  const menu = await createAutoscaledService(fleet, newName());
  await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
  await menu.runJobs();
  // The older release resolves a demand without making its service due.
  await fleet.ctx.db
    .execute(sql`update demands set state = 'resolved', release_at = now() - interval '1 second'
    where service_id = ${menu.serviceId}`);
  await fleet.ctx.db.execute(
    sql`update autoscale_states set due_at = null where service_id = ${menu.serviceId}`,
  );
  expect(await auditDueServices(fleet.ctx)).toBe(1);
  await evaluateDueServices(fleet.ctx);
  expect((await menu.demands()).items.map(({ state }) => state)).toEqual(["released"]);
});
