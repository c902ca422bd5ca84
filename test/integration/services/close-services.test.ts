import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { listServices } from "../../../src/db/queries/services/read-services.ts";
import { listUnbalancedServices } from "../../../src/db/queries/services/write-services.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obeyOrders } from "../../support/fleet/live-sets.ts";

const start = fleetPerTest();

test("the audit of replicas reaches each service, however many stay unbalanced", async () => {
  const f = await start();
  const names = ["first", "second", "third"];
  for (const name of names) await createService(f.ctx, f.tenantId, serviceBody(name));
  await f.ctx.db.execute(sql`update services set desired_replicas = desired_replicas + 1`);
  const seen = new Set<string>();
  for (let round = 0; round < 100; round++)
    for (const id of await listUnbalancedServices(f.ctx.db, 1)) seen.add(id);
  expect(seen.size).toBe(names.length);
});

test("the audit of replicas reads a service of each tenant first", async () => {
  const f = await start();
  const neighbor = await createTenant(f.ctx, tenantBody("neighbor"));
  for (let index = 0; index < 20; index++)
    await createService(f.ctx, f.tenantId, serviceBody(`held-${index}`));
  const { service } = await createService(f.ctx, neighbor.id, serviceBody("broken"));
  await f.ctx.db.execute(sql`update services set desired_replicas = desired_replicas + 1`);
  for (let round = 0; round < 20; round++)
    expect(await listUnbalancedServices(f.ctx.db, 2)).toContain(service.id);
});

test("the report of a removed set completes the deletion of its service only", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await createService(f.ctx, f.tenantId, serviceBody("other", { replicas: 0 }));
  await f.placer.placeSets();
  await obeyOrders(f, hostId);
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  await f.ctx.db.execute(sql`update services set deleting = true where name = 'other'`);
  await obeyOrders(f, hostId);
  const names = async () =>
    (await listServices(f.ctx.db, f.tenantId, undefined, 10)).map(({ name }) => name);
  expect(await names()).toEqual(["other"]);
  await closeServices(f.ctx);
  expect(await names()).toEqual([]);
});
