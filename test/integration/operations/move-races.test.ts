import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { resizeService } from "../../../src/control/services/resize-service.ts";
import { cancelDrainMoves } from "../../../src/db/queries/operations/end-operations.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { type FleetContext, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";

/** Moves concurrent with other changes of the same sets. */

const start = fleetPerTest();

/** A service "web" whose sets run on h1. */
async function runWeb(f: FleetContext, replicas: number): Promise<string> {
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas }));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  return h1;
}

test("an uncordon during a round of the mover leaves no replacement behind", async () => {
  const f = await start();
  const h1 = await runWeb(f, 1);
  await drainHost(f.ctx, h1);
  const mover = createMover(f.ctx);
  expect(await mover.moveSets()).toBe(0); // there is no other host
  await f.enroll("h2");
  await f.ctx.db.execute(sql`update operations set due_at = now()`);
  const { round } = await withTx(f.ctx.db, async (tx) => {
    // The statements of an uncordon, which takes no lock that a replacement would need.
    await tx.execute(sql`update hosts set cordoned = false, draining = false where id = ${h1}`);
    await cancelDrainMoves(tx, 100);
    const running = mover.moveSets();
    await waitForLockWait(f.ctx.db, "the mover waits for the operation that the uncordon ends");
    return { round: running };
  });
  expect(await round).toBe(0);
  expect(await listLiveSets(f)).toMatchObject([{ host: "h1", ready: true }]);
  expect(await queryRows(f.ctx.db, sql`select 1 from operations`)).toEqual([]);
});

test("a forced drain past its deadline moves a set whose resize waits for capacity", async () => {
  const f = await start();
  const h1 = await runWeb(f, 4);
  const mover = createMover(f.ctx);
  const resize = { cpu: 2_000, ifNoCapacity: "move" as const };
  await resizeService(f.ctx, f.tenantId, "web", resize, undefined);
  const waiting = sql`select set_id as id from operations where kind = 'resize' and phase = 'waiting'`;
  const [resized] = await queryRows<{ id: string }>(f.ctx.db, waiting);
  expect(resized).toBeDefined();
  await drainHost(f.ctx, h1, { deadlineSeconds: 600, force: true });
  await mover.moveSets();
  expect((await listLiveSets(f)).every(({ host }) => host === "h1")).toBe(true);
  await f.ctx.db.execute(sql`update drains set deadline_at = now() - interval '1 second'`);
  await f.ctx.db.execute(sql`update operations set due_at = now()`);
  await mover.moveSets();
  await obeyOrders(f, h1);
  const left = (await listLiveSets(f)).find(({ id }) => id === resized?.id);
  expect(left).toMatchObject({ host: null, desired: "running" });
  const [size] = await queryRows(
    f.ctx.db,
    sql`select cpu_millis::int as cpu from sets where id = ${resized?.id}`,
  );
  expect(size).toEqual({ cpu: 2_000 });
});
