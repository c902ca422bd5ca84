import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { resizeService } from "../../../src/control/services/resize-service.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

/** Shows sets with options that not every agent knows. */
let f: FleetContext;
let mover: Mover;
let h1: string;

beforeEach(async () => {
  f = await createFleetContext();
  mover = createMover(f.ctx);
  h1 = await f.enroll("h1");
  await setFeatures(h1, ["init"]);
  const options = { cpu: 100, memory: 100, init: false };
  const template = {
    cpu: 1,
    memory: "1Gi",
    containers: [{ index: 0, name: "app", image: "menu:42", options }],
  };
  await createService(f.ctx, f.tenantId, serviceBody("web", { template }));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
});
afterEach(() => f.close());

async function setFeatures(hostId: string, features: string[]): Promise<void> {
  const capabilities = JSON.stringify({ features, docker: null, selfTest: null, version: "v1" });
  await f.ctx.db.execute(
    sql`update hosts set capabilities = ${capabilities}::jsonb where id = ${hostId}`,
  );
}

test("a set moves only to a host whose agent has the features that it needs", async () => {
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(0);
  const [set] = await listLiveSets(f);
  expect(set).toMatchObject({ host: "h1", ready: true });
  const { reason } = await getSet(f.ctx, f.tenantId, set?.id ?? "");
  expect(reason).toMatchObject({
    code: "move-held",
    text: expect.stringContaining("[agent-too-old]"),
  });
  await setFeatures(h2, ["init"]);
  expect(await mover.moveSets()).toBe(1);
});

test("a set on a host whose agent has lost its features stays, and can be resized there", async () => {
  await setFeatures(h1, []);
  const size = { memory: 2 * 2 ** 30, ifNoCapacity: "refuse" as const };
  await resizeService(f.ctx, f.tenantId, "web", size, undefined);
  await obeyOrders(f, h1);
  const [set] = await listLiveSets(f);
  expect(set).toMatchObject({ host: "h1", ready: true, desired: "running" });
  expect(await getSet(f.ctx, f.tenantId, set?.id ?? "")).toMatchObject({
    memoryBytes: 2 * 2 ** 30,
    reason: null,
  });
});
