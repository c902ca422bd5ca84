import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createMetrics } from "../../../src/main/compose/metrics.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { type JobPlane, openJobPlane } from "../../support/fleet/job-plane.ts";

let plane: JobPlane;
let sql: postgres.Sql;
beforeAll(async () => {
  plane = await openJobPlane();
  sql = postgres(plane.database.url, { max: 1, onnotice: () => undefined });
});
afterAll(async () => {
  await sql.end();
  await plane.close();
});

it("the age of the most overdue pending set grows without a placer, and is 0 once its sets wait for a retry", async () => {
  const metrics = createMetrics(plane);
  const readAge = async () =>
    Number(/^berth_pending_sets_oldest_due_seconds (\S+)$/m.exec(await metrics.render())?.[1]);
  expect(await readAge()).toBe(0);
  await createService(plane.ctx, plane.tenantId, serviceBody("web", { replicas: 2 }));
  await sql`update sets set plan_after = now() - interval '1 minute'`;
  expect(await readAge()).toBeGreaterThanOrEqual(60);
  const placer = createPlacer(plane.ctx);
  await placer.placeSets(); // no host exists, so both sets get a reason and a retry
  await sql`update sets set plan_after = now() + interval '1 minute'`;
  expect(await readAge()).toBe(0);
});

it("shows the free addresses of subnets whose addresses sets have", async () => {
  const metrics = createMetrics(plane);
  const read = async () =>
    /^berth_subnet_free_addresses\{.*$/m.exec(await metrics.render())?.[0] ?? null;
  await insertNetwork("10.1.0.0/29");
  expect(await read()).toBeNull();
  await sql`update subnets set unavailable = 3`;
  expect(await read()).toBe(
    'berth_subnet_free_addresses{tenant="default",network="small",family="4"} 2',
  );
});

async function insertNetwork(cidr: string): Promise<void> {
  const body = createNetworkBody.parse({ name: "small", subnets: [{ cidr }] });
  await createNetwork(plane.ctx, plane.tenantId, body);
}
