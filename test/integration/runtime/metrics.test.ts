import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
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
