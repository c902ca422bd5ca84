import { afterAll, beforeAll, expect, it } from "vitest";
import type { DbHandle } from "../../../src/db/postgres/open-postgres.ts";
import { migrateEmbedded } from "../../../src/db/migrate.ts";
import { openPglite } from "../../../src/db/pglite/open-pglite.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { deleteHook } from "../../../src/control/autoscaling/delete-hook.ts";
import { ensureBootstrap } from "../../../src/control/tenancy/bootstrap.ts";
import { evaluateDueServices } from "../../../src/control/autoscaling/evaluate-due-services.ts";
import { createRetention } from "../../../src/control/events/retention.ts";
import {
  cpuHigh,
  createAutoscaledService,
  type AutoscaledService,
  deliverAlerts,
  endStabilization,
} from "../../support/fleet/autoscaled-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

/**
 * The embedded Postgres has one connection and another driver. The same statements must work there.
 */
let postgres: FleetContext;
let embedded: DbHandle;
let fleet: FleetContext;
let menu: AutoscaledService;

beforeAll(async () => {
  [postgres, embedded] = await Promise.all([createFleetContext(), openPglite("memory://")]);
  await migrateEmbedded(embedded);
  const ctx = { ...postgres.ctx, db: embedded.db };
  await ensureBootstrap(ctx);
  const quota = { setsMax: 100, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 };
  const { id } = await createTenant(ctx, tenantBody("small", quota));
  fleet = { ...postgres, ctx, tenantId: id };
  menu = await createAutoscaledService(fleet, "menu");
});
afterAll(async () => {
  await embedded.close();
  await postgres.close();
});

it("concurrent deliveries of an alert scale a service out and in on the embedded database", async () => {
  const alerts = [cpuHigh(), cpuHigh({ key: "second" })];
  const receipts = await Promise.all(
    Array.from({ length: 8 }, () => deliverAlerts(fleet.ctx, menu.hookId, alerts)),
  );
  expect(receipts).toEqual(receipts.map(() => ({ accepted: 2, ignored: 0 })));
  await menu.runJobs();
  expect([await menu.desired(), await menu.setsCount()]).toEqual([5, 5]);
  const ends = alerts.map((alert) => ({ ...alert, status: "resolved" as const }));
  await deliverAlerts(fleet.ctx, menu.hookId, ends);
  await endStabilization(fleet.ctx, menu.serviceId);
  expect(await evaluateDueServices(fleet.ctx)).toEqual({ evaluated: 1, scaled: 1, failed: 0 });
  expect([await menu.desired(), await menu.setsCount()]).toEqual([3, 3]);
  expect((await menu.decisions()).items.map((decision) => decision.toReplicas)).toEqual([3, 5]);
  expect((await menu.demands()).items.map((demand) => demand.state)).toEqual([
    "released",
    "released",
  ]);
});

it("deletes hooks and old decisions on the embedded database", async () => {
  await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh({ key: "third" })]);
  await deleteHook(fleet.ctx, fleet.tenantId, menu.name, menu.hookId);
  expect((await menu.demands()).items[0]).toMatchObject({ key: "third", state: "resolved" });
  const ages = {
    idempotencyKeysSeconds: 0,
    eventsSeconds: 0,
    demandsSeconds: 0,
    decisionsSeconds: 0,
    parkedJobsSeconds: 0,
    deletedHostsSeconds: 0,
    sessionsSeconds: 0,
    deletedSeconds: 0,
  };
  await createRetention(fleet.ctx, ages).run();
  expect((await menu.demands()).items.map((demand) => demand.key)).toEqual(["third"]);
});
