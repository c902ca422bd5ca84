import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { patchServiceBody } from "../../../src/contracts/api/services.ts";
import { type PatchTenant, patchTenantBody } from "../../../src/contracts/api/tenancy.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import {
  cpuHigh,
  createAutoscaledService,
  deliverAlerts,
} from "../../support/fleet/autoscaled-service.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { getTenant } from "../../../src/control/tenancy/get-tenant.ts";
import { patchTenant } from "../../../src/control/tenancy/patch-tenant.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

let fleet: FleetContext;
let tenantId: string;
beforeEach(async () => {
  fleet = await createFleetContext();
  tenantId = (await createTenant(fleet.ctx, tenantBody("small"))).id;
});
afterEach(() => fleet.close());

const patch = (body: Parameters<typeof patchTenantBody.parse>[0]) => {
  const parsed: PatchTenant = patchTenantBody.parse(body);
  return patchTenant(fleet.ctx, "small", undefined, parsed);
};
const create = (name: string, more: object) =>
  createService(fleet.ctx, tenantId, serviceBody(name, more));
const missing = (what: string) => ({
  code: "grant-missing",
  publicDetail: expect.stringContaining(what),
});

const requests = [
  ["pool gpu", { placement: { pool: "gpu" } }, { pools: ["default", "gpu"] }],
  [
    "toleration dedicated=a",
    { placement: { tolerations: [{ key: "dedicated", value: "a" }] } },
    { tolerations: ["dedicated=a"] },
  ],
  [
    "host label disk=ssd",
    { placement: { hostLabels: { disk: "ssd" } } },
    { hostLabels: ["disk=*"] },
  ],
  ["priority 1000", { priority: 1000 }, { priorityMax: 1000 }],
] as const;

test.each(requests)(
  "a tenant needs a grant for %s to create or change a service",
  async (name, request, grants) => {
    await expect(create("web", request)).rejects.toMatchObject(missing(name));
    await create("plain", {});
    const change = (generation: number) =>
      patchService(fleet.ctx, tenantId, "plain", generation, patchServiceBody.parse(request));
    await expect(change(1)).rejects.toMatchObject(missing(name));
    await patch({ grants });
    await create("web", request);
    await change(1);
  },
);

test("a tenant whose grants exclude the defaults cannot use the defaults", async () => {
  await patch({ grants: { pools: ["gpu"] } });
  await expect(create("web", {})).rejects.toMatchObject(missing("pool default"));
  await patch({ grants: { pools: ["*"], priorityMax: 50 } });
  await expect(create("web", {})).rejects.toMatchObject(missing("priority 100"));
});

test("a service keeps running without its grant, and cannot be scaled out", async () => {
  await patch({ grants: { pools: ["gpu"] } });
  await create("web", { placement: { pool: "gpu" }, replicas: 2 });
  const { effects } = await patch({ grants: { pools: ["default"] } });
  expect(effects.join(" ")).toContain("web (pool gpu)");
  const scale = (replicas: number) =>
    scaleService(fleet.ctx, tenantId, "web", { replicas }, undefined);
  await expect(scale(3)).rejects.toMatchObject(missing("pool gpu"));
  await scale(1);
  await patchService(fleet.ctx, tenantId, "web", 2, patchServiceBody.parse({ onHostLost: "wait" }));
});

test("a change of a tenant needs the current generation, and keeps the members it does not name", async () => {
  const { tenant } = await patch({ quota: { setsMax: 5 }, grants: { pools: ["gpu"] } });
  expect(tenant).toMatchObject({
    generation: 2,
    quota: { setsMax: 5, cpuMillisMax: 1_000_000 },
    grants: { pools: ["gpu"], priorityMax: 100 },
  });
  const stale = patchTenant(fleet.ctx, "small", 1, { quota: { setsMax: 6 } });
  await expect(stale).rejects.toMatchObject({ code: "generation-mismatch" });
  const other = patchTenant(fleet.ctx, "nothing", undefined, { quota: { setsMax: 6 } });
  await expect(other).rejects.toMatchObject({ code: "not-found" });
});

test("a larger quota admits more sets, and a smaller quota removes none", async () => {
  await patch({ quota: { setsMax: 1 } });
  const two = { replicas: 2 };
  await expect(create("web", two)).rejects.toMatchObject({ code: "quota-exceeded" });
  await patch({ quota: { setsMax: 2 } });
  await create("web", two);
  const { effects } = await patch({ quota: { setsMax: 1 } });
  expect(effects.join(" ")).toContain("uses 2, more than setsMax");
  const detail = await getTenant(fleet.ctx, null, "small");
  expect(detail.use).toMatchObject({ intended: { sets: 2 }, existing: { sets: 2 }, trashBytes: 0 });
});

test("I9: a tenant reads itself, and no other tenant", async () => {
  expect((await getTenant(fleet.ctx, tenantId, "small")).id).toBe(tenantId);
  const other = getTenant(fleet.ctx, tenantId, "food");
  await expect(other).rejects.toMatchObject({ code: "not-found" });
});

test("alerts do not scale out a service without its grant, and the decision says so", async () => {
  const { name } = await getTenantOfFleet();
  const service = await createAutoscaledService(fleet, "web", { replicas: 2 });
  const grant = (pools: string[]) =>
    patchTenant(fleet.ctx, name, undefined, patchTenantBody.parse({ grants: { pools } }));
  await grant(["gpu"]);
  await deliverAlerts(fleet.ctx, service.hookId, [cpuHigh()]);
  await service.runJobs();
  expect(await service.desired()).toBe(2);
  const { items } = await service.decisions();
  expect(items[0]?.because.join(" ")).toContain("the tenant is not granted pool default");
  await grant(["default"]);
  await autoscaleService(fleet.ctx, service.serviceId);
  expect(await service.desired()).toBeGreaterThan(2);
});

/** The tenant that owns the autoscaled services of a fleet. */
async function getTenantOfFleet(): Promise<{ name: string }> {
  const rows = await queryRows<{ name: string }>(
    fleet.ctx.db,
    sql`select name from tenants where id = ${fleet.tenantId}`,
  );
  const [tenant] = rows;
  if (!tenant) throw new Error("the fleet has no tenant");
  return tenant;
}
