import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Alert } from "../../../src/contracts/api/alert-deliveries.ts";
import { AppError } from "../../../src/contracts/common/app-error.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import type { ControlContext } from "../../../src/control/runtime/context.ts";
import { deleteHook } from "../../../src/control/autoscaling/delete-hook.ts";
import { releaseDemand } from "../../../src/control/autoscaling/release-demand.ts";
import { evaluateDueServices } from "../../../src/control/autoscaling/evaluate-due-services.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  cpuHigh,
  createAutoscaledService,
  deliverAlerts,
  endStabilization,
} from "../../support/fleet/autoscaled-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";

/** Contexts of two API processes and two job workers, whose calls run concurrently. */
let fleet: FleetContext;
let processes: ControlContext[];

beforeAll(async () => {
  fleet = await createFleetContext();
  processes = [fleet.ctx, fleet.secondContext(), fleet.secondContext(), fleet.secondContext()];
});
afterAll(() => fleet.close());

/** Runs `work` in every process, `times` times in each, all concurrently. */
function everywhere<T>(times: number, work: (ctx: ControlContext) => Promise<T>): Promise<T[]> {
  const runs = Array.from({ length: times }, () => processes).flat();
  return Promise.all(runs.map(work));
}

const resolved = (more: Partial<Alert> = {}) => cpuHigh({ status: "resolved", ...more });

it("forty concurrent deliveries of one alert have one effect", async () => {
  const menu = await createAutoscaledService(fleet, "delivered-at-once");
  const receipts = await everywhere(10, (ctx) => deliverAlerts(ctx, menu.hookId, [cpuHigh()]));
  expect(new Set(receipts.map((receipt) => JSON.stringify(receipt)))).toEqual(
    new Set(['{"accepted":1,"ignored":0}']),
  );
  expect((await menu.demands()).items).toMatchObject([{ wantedReplicas: 5, baseReplicas: 3 }]);
  expect(fleet.enqueued.filter((job) => job.name === "autoscale-service")).toHaveLength(1);
  await menu.runJobs();
  expect(await menu.desired()).toBe(5);
});

it("a repeated delivery has no second effect if its transaction was committed and its response was lost", async () => {
  const menu = await createAutoscaledService(fleet, "not-answered");
  const broken: ControlContext = {
    ...fleet.ctx,
    jobQueue: { enqueue: () => Promise.reject(new Error("the process ends here")) },
  };
  await expect(deliverAlerts(broken, menu.hookId, [cpuHigh()])).rejects.toThrow(/ends here/);
  await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
  expect((await menu.demands()).items).toHaveLength(1);
  const left = await queryRows<{ payload: { serviceId: string } }>(
    fleet.ctx.db,
    sql`select payload from outbox where name = 'autoscale-service' and payload->>'serviceId' = ${menu.serviceId}`,
  );
  expect(left).toHaveLength(1);
});

it("concurrent `firing` and `resolved` alerts of many senders leave no alert firing", async () => {
  const menu = await createAutoscaledService(fleet, "begin-and-end");
  for (let run = 0; run < 8; run++) {
    const startsAt = new Date(Date.UTC(2026, 0, 5, 3, run)).toISOString();
    await Promise.all([
      everywhere(2, (ctx) => deliverAlerts(ctx, menu.hookId, [cpuHigh({ startsAt })])),
      everywhere(2, (ctx) => deliverAlerts(ctx, menu.hookId, [resolved({ startsAt })])),
    ]);
  }
  const { items } = await menu.demands();
  expect(items).toHaveLength(8);
  expect(items.filter((demand) => demand.state === "firing")).toEqual([]);
});

it("concurrent alerts of one rule from many senders add one step", async () => {
  const menu = await createAutoscaledService(fleet, "steps");
  const keys = ["a", "b", "c", "d"];
  await Promise.all(
    processes.map((ctx, index) =>
      deliverAlerts(ctx, menu.hookId, [cpuHigh({ key: keys[index] ?? "" })]),
    ),
  );
  const { items } = await menu.demands();
  expect(items.map((demand) => demand.wantedReplicas)).toEqual([5, 5, 5, 5]);
  await menu.runJobs();
  expect(await menu.desired()).toBe(5);
});

const REPETITIONS_MAX = 10;

/** Retries a call that was refused as overloaded, as a job does, or a client after a 503. */
async function repeatWhileShed<T>(call: () => Promise<T>): Promise<T> {
  for (let repetition = 0; ; repetition++) {
    try {
      return await call();
    } catch (error) {
      const isShed = error instanceof AppError && error.code === "overloaded";
      if (!isShed || repetition === REPETITIONS_MAX) throw error;
    }
  }
}

it("one decision takes effect if several job workers evaluate a service", async () => {
  const menu = await createAutoscaledService(fleet, "decided-at-once");
  await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
  const outcomes = await everywhere(5, (ctx) =>
    repeatWhileShed(() => autoscaleService(ctx, menu.serviceId)),
  );
  expect(outcomes.filter((outcome) => outcome?.acted)).toHaveLength(1);
  expect((await menu.decisions()).items.filter((decision) => decision.acted)).toHaveLength(1);
  expect(await menu.setsCount()).toBe(5);
});

it("concurrent sweeps release a demand once and scale in once", async () => {
  const menu = await createAutoscaledService(fleet, "swept-at-once");
  await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
  await menu.runJobs();
  await deliverAlerts(fleet.ctx, menu.hookId, [resolved()]);
  await endStabilization(fleet.ctx, menu.serviceId);
  const before = await countEvents(menu.serviceId, "demand-released");
  await everywhere(3, evaluateDueServices);
  const acted = (await menu.decisions()).items.filter((decision) => decision.acted);
  expect(acted.map((decision) => decision.toReplicas)).toEqual([3, 5]);
  expect(await countEvents(menu.serviceId, "demand-released")).toBe(before + 1);
  await everywhere(2, (ctx) => repeatWhileShed(() => autoscaleService(ctx, menu.serviceId)));
  expect([await menu.desired(), await menu.setsCount()]).toEqual([3, 3]);
});

it("concurrent deliveries, decisions, sweeps, user changes and a deletion do not deadlock, and the last one takes effect", async () => {
  const menu = await createAutoscaledService(fleet, "everything", {
    stabilizationSeconds: 0,
    max: 40,
  });
  const deliver = (ctx: ControlContext, index: number, status: Alert["status"]) =>
    deliverAlerts(ctx, menu.hookId, [
      cpuHigh({ key: `k${index % 5}`, startsAt: "2026-01-05T03:00:00Z", status }),
    ]);
  const acts = (ctx: ControlContext, index: number): (() => Promise<unknown>)[] => [
    () => deliver(ctx, index, "firing"),
    () => deliver(ctx, index + 2, "resolved"),
    () => autoscaleService(ctx, menu.serviceId),
    () => evaluateDueServices(ctx),
    () => scaleService(ctx, fleet.tenantId, menu.name, { replicas: 3 + (index % 3) }, undefined),
    () => fleet.placer.placeSets(),
  ];
  const all = Array.from({ length: 6 }, (_, round) =>
    processes.flatMap((ctx, at) => acts(ctx, round * 4 + at)),
  ).flat();
  const results = await Promise.allSettled(all.map(repeatWhileShed));
  expect(results.filter((result) => result.status === "rejected")).toEqual([]);
  await Promise.all([
    deleteHook(fleet.ctx, fleet.tenantId, menu.name, menu.hookId),
    ...processes.map((ctx, index) => deliver(ctx, 100 + index, "firing").catch(expectNotFound)),
  ]);
  await evaluateDueServices(fleet.ctx);
  await scaleService(fleet.ctx, fleet.tenantId, menu.name, { replicas: 4 }, undefined);
  await autoscaleService(fleet.ctx, menu.serviceId);
  expect([await menu.desired(), await menu.setsCount()]).toEqual([4, 4]);
});

it("a release by a user and a concurrent `resolved` alert release a demand once", async () => {
  const menu = await createAutoscaledService(fleet, "released-at-once");
  await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
  const [demand] = (await menu.demands()).items;
  await everywhere(2, async (ctx) => {
    await Promise.all([
      releaseDemand(ctx, fleet.tenantId, menu.name, demand?.id ?? ""),
      deliverAlerts(ctx, menu.hookId, [resolved()]),
    ]);
  });
  expect((await menu.demands()).items.map((one) => one.state)).toEqual(["released"]);
  expect(await countEvents(menu.serviceId, "demand-released")).toBe(1);
});

function expectNotFound(error: unknown): void {
  expect(error).toBeInstanceOf(AppError);
  expect(error).toMatchObject({ code: "not-found" });
}

async function countEvents(serviceId: string, kind: string): Promise<number> {
  const rows = await queryRows<{ count: number }>(
    fleet.ctx.db,
    sql`select count(*)::int as count from events where service_id = ${serviceId} and kind = ${kind}`,
  );
  return rows[0]?.count ?? 0;
}
