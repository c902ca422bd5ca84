import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { restoreVolume } from "../../../src/control/volumes/restore-volume.ts";
import { tryLockPlacement } from "../../../src/db/queries/placement/placements.ts";
import { withTx } from "../../../src/db/transaction.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { createDb, trashTheVolume } from "../../support/fleet/trashed-volume.ts";

let fleet: FleetContext | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

/** A host with capacity for two volumes of a GiB, one of which is in the trash. */
async function start(): Promise<{ f: FleetContext; volumeId: string }> {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1", { allocatable: { ...smallHost, volumeBytes: 2 ** 31 } });
  await createDb(f, 1);
  const { volumeId } = await trashTheVolume(f, hostId);
  return { f, volumeId };
}

test.each([
  {
    rule: "a taint",
    reason: "taint-not-tolerated",
    change: sql`update hosts set taints = '[{"key": "gpu", "value": "yes"}]' where name = 'h1'`,
  },
  {
    rule: "the pool",
    reason: "other-pool",
    change: sql`update hosts set pool = 'gpu' where name = 'h1'`,
  },
  {
    rule: "a label",
    reason: "label-mismatch",
    change: sql`update services set placement = jsonb_set(placement, '{hostLabels}', '{"disk": "ssd"}') where name = 'db'`,
  },
  {
    rule: "anti-affinity of the service",
    reason: "anti-affinity",
    change: sql`update services set placement = jsonb_set(placement, '{antiAffinity}', '["web"]') where name = 'db'`,
  },
  {
    rule: "anti-affinity of a service on the host",
    reason: "anti-affinity",
    change: sql`update services set placement = jsonb_set(placement, '{antiAffinity}', '["db"]') where name = 'web'`,
  },
  {
    rule: "spread",
    reason: "spread-zone",
    change: sql`update services set placement = jsonb_set(placement, '{spread}', '[{"by": "zone", "maxSkew": 1}]') where name = 'db'`,
  },
  {
    rule: "a stale report",
    reason: "report-stale",
    change: sql`update hosts set reported_at = now() - interval '1 hour' where name = 'h1'`,
  },
])("a volume is restored only where its set may be placed: $rule", async ({ reason, change }) => {
  const { f, volumeId } = await start();
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await createDb(f, 1); // with the set of `web` on the only host
  const other = await f.enroll("h2", { zone: "zone-b" });
  await f.ctx.db.execute(sql`
    insert into host_pools (name, version, overcommit_percent, high_water_percent)
    select 'gpu', version, overcommit_percent, high_water_percent from host_pools`);
  await f.ctx.db.execute(change);
  const restore = () => restoreVolume(f.ctx, null, volumeId);
  const error = await restore().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ code: "state-conflict" });
  expect(String(error)).toMatch(new RegExp(`does not take the set: .*\\[${reason}\\].*To fix: `));
  expect(await getService(f.ctx, f.tenantId, "db")).toMatchObject({ replicas: 1 });
  expect((await f.sync(other, { full: true })).sets).toEqual([]);
});

test("a preferred spread does not refuse a restore", async () => {
  const { f, volumeId } = await start();
  await createDb(f, 1);
  await f.enroll("h2", { zone: "zone-b" });
  await f.ctx.db.execute(sql`
    update services set placement = jsonb_set(placement, '{spread}', '[{"by": "zone", "maxSkew": 1, "mode": "preferred"}]')`);
  expect(await restoreVolume(f.ctx, null, volumeId)).toMatchObject({ state: "placed" });
});

test("a restore waits for a placement, at most half a second", async () => {
  const { f, volumeId } = await start();
  await createDb(f, 0);
  await withTx(f.secondContext().db, async (tx) => {
    expect(await tryLockPlacement(tx)).toBe(true);
    const restore = restoreVolume(f.ctx, null, volumeId);
    await expect(restore).rejects.toMatchObject({ code: "overloaded" });
  });
  expect(await restoreVolume(f.ctx, null, volumeId)).toMatchObject({ state: "placed" });
});
