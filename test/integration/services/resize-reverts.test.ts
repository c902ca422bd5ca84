import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { observed, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obeyOrders } from "../../support/fleet/live-sets.ts";
import { resize } from "../../support/fleet/resizing.ts";
import { createService } from "../../../src/control/services/create-service.ts";

/** The size to which a refused resize reverts. */

const start = fleetPerTest();

test("a refused resize reverts to the last size of the set, not to an older one", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  await obeyOrders(f, hostId);
  await resize(f, { cpu: 2 });
  // The agent has the order for 2 cores. A resize to 3 cores waits for capacity, and then has it.
  await f.ctx.db.execute(sql`update hosts set allocatable_cpu_millis = 2500`);
  await resize(f, { cpu: 3, ifNoCapacity: "move" });
  const phases = sql`select phase, cpu_millis::int as cpu from operations`;
  expect(await queryRows(f.ctx.db, phases)).toEqual([{ phase: "waiting", cpu: 3_000 }]);
  await f.ctx.db.execute(sql`update hosts set allocatable_cpu_millis = 4000`);
  await createMover(f.ctx).moveSets();
  expect(await queryRows(f.ctx.db, phases)).toEqual([{ phase: "applying", cpu: 3_000 }]);
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has the set");
  const reason = { code: "cpu", text: "the kernel refuses it", phase: "resize" };
  await f.sync(hostId, {
    observed: [observed(set, "running", { sized: false, sizeRefused: true, reason })],
  });
  const [reverted] = (await f.sync(hostId, { full: true })).sets;
  expect(reverted).toMatchObject({ template: { cpuMillis: 2_000 } });
});
