import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { AppError } from "../../../src/contracts/common/app-error.ts";
import { hookSchema } from "../../../src/contracts/api/autoscaling.ts";
import { authenticate } from "../../../src/control/tenancy/authenticate.ts";
import { autoscaleService } from "../../../src/control/autoscaling/autoscale-service.ts";
import { createHook } from "../../../src/control/autoscaling/create-hook.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { deleteHook } from "../../../src/control/autoscaling/delete-hook.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { listDecisions } from "../../../src/control/autoscaling/list-decisions.ts";
import { listDemands } from "../../../src/control/autoscaling/list-demands.ts";
import { listHooks } from "../../../src/control/autoscaling/list-hooks.ts";
import { newId } from "../../../src/lib/ids.ts";
import { patchHook } from "../../../src/control/autoscaling/patch-hook.ts";
import { releaseDemand } from "../../../src/control/autoscaling/release-demand.ts";
import { evaluateDueServices } from "../../../src/control/autoscaling/evaluate-due-services.ts";
import {
  cpuHigh,
  createAutoscaledService,
  deliverAlerts,
  endStabilization,
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

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => "nothing thrown",
    (error: unknown) => (error instanceof AppError ? error.code : error),
  );

describe("a hook", () => {
  it("shows its paths, and its token permits this hook only", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    const { items } = await listHooks(fleet.ctx, fleet.tenantId, menu.name, { limit: 10 });
    expect(items.map((hook) => hookSchema.parse(hook).paths)).toEqual([
      {
        alertmanager: `/hooks/alertmanager/${menu.hookId}`,
        grafana: `/hooks/grafana/${menu.hookId}`,
        zabbix: `/hooks/zabbix/${menu.hookId}`,
        falcon: `/hooks/falcon/${menu.hookId}`,
        generic: `/hooks/generic/${menu.hookId}`,
      },
    ]);
    expect(await authenticate(fleet.ctx, menu.token)).toMatchObject({
      role: "hook",
      hookId: menu.hookId,
    });
  });

  it("needs a service with bounds, a free name, and rules that the database can store", async () => {
    const name = newName();
    await createService(fleet.ctx, fleet.tenantId, serviceBody(name, { replicas: 1 }));
    const body = {
      name: "web",
      rules: [{ match: {}, want: { step: 1 } }],
      stabilizationSeconds: 0,
    };
    const unbounded = createHook(fleet.ctx, fleet.tenantId, name, body);
    await expect(unbounded).rejects.toThrow(/Set `autoscale.min` and `autoscale.max` first/);
    expect(await codeOf(createHook(fleet.ctx, fleet.tenantId, "nobody", body))).toBe("not-found");
    const menu = await createAutoscaledService(fleet, newName());
    const taken = { ...body, name: "web-alerts" };
    expect(await codeOf(createHook(fleet.ctx, fleet.tenantId, menu.name, taken))).toBe(
      "already-exists",
    );
    const unstorable = { ...body, rules: [{ match: { a: "\0" }, want: { step: 1 } }] };
    expect(await codeOf(createHook(fleet.ctx, fleet.tenantId, menu.name, unstorable))).toBe(
      "invalid-request",
    );
  });

  it("a changed hook keeps its token and its held demands; the new rules apply to later alerts", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    const rules = [{ match: {}, want: { replicas: 9 } }];
    const change = { rules, stabilizationSeconds: 7 };
    const hook = await patchHook(fleet.ctx, fleet.tenantId, menu.name, menu.hookId, change);
    expect(hookSchema.parse(hook)).toMatchObject({ ...change, name: "web-alerts" });
    expect(await authenticate(fleet.ctx, menu.token)).toMatchObject({ hookId: menu.hookId });
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh(), cpuHigh({ key: "other" })]);
    const { items } = await menu.demands();
    expect(items.map((demand) => `${demand.state} ${demand.wantedReplicas}`).toSorted()).toEqual([
      "firing 5",
      "firing 9",
    ]);
    const missing = patchHook(fleet.ctx, fleet.tenantId, menu.name, newId("hook"), change);
    expect(await codeOf(missing)).toBe("not-found");
    const unstorable = { rules: [{ match: { a: "\0" }, want: { step: 1 } }] };
    const refused = patchHook(fleet.ctx, fleet.tenantId, menu.name, menu.hookId, unstorable);
    expect(await codeOf(refused)).toBe("invalid-request");
  });

  it("a deleted hook rejects alerts and its token, and its demands end after the stabilization window", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    await deleteHook(fleet.ctx, fleet.tenantId, menu.name, menu.hookId);
    expect(await codeOf(deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]))).toBe("not-found");
    expect(await authenticate(fleet.ctx, menu.token)).toBeUndefined();
    expect(await codeOf(deleteHook(fleet.ctx, fleet.tenantId, menu.name, menu.hookId))).toBe(
      "not-found",
    );
    await menu.runJobs();
    expect(await menu.desired()).toBe(5);
    await endStabilization(fleet.ctx, menu.serviceId);
    await evaluateDueServices(fleet.ctx);
    await menu.runJobs();
    expect(await menu.desired()).toBe(3);
  });

  it("a hook of a service that is being deleted rejects alerts", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deleteService(fleet.ctx, fleet.tenantId, menu.name, undefined);
    expect(await codeOf(deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]))).toBe("not-found");
    expect(await autoscaleService(fleet.ctx, menu.serviceId)).toBeUndefined();
  });

  it("another tenant finds neither the hook nor its demands (I9)", async () => {
    const menu = await createAutoscaledService(fleet, newName());
    await deliverAlerts(fleet.ctx, menu.hookId, [cpuHigh()]);
    await menu.runJobs();
    const [demand] = (await menu.demands()).items;
    const tenant = await createTenant(
      fleet.ctx,
      tenantBody("stranger", { setsMax: 10, cpuMillisMax: 1e6, memoryBytesMax: 2 ** 40 }),
    );
    await createAutoscaledService({ ...fleet, tenantId: tenant.id }, menu.name);
    const { ctx } = fleet;
    expect(await codeOf(deleteHook(ctx, tenant.id, menu.name, menu.hookId))).toBe("not-found");
    expect(await codeOf(releaseDemand(ctx, tenant.id, menu.name, demand?.id ?? ""))).toBe(
      "not-found",
    );
    expect((await listDemands(ctx, tenant.id, menu.name, { limit: 10 })).items).toEqual([]);
    expect((await listDecisions(ctx, tenant.id, { limit: 10 })).items).toEqual([]);
    expect((await menu.demands()).items.map((one) => one.state)).toEqual(["firing"]);
  });
});
