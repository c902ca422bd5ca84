import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { resizeServiceBody } from "../../../src/contracts/api/services.ts";
import { lockFleetHosts } from "../../../src/db/queries/placement/fleet.ts";
import { computeOverhead } from "../../../src/contracts/api/container-overhead.ts";
import { commitPlacements } from "../../../src/db/queries/placement/placements.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { assert } from "../../../src/lib/assert.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { resizeService } from "../../../src/control/services/resize-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";

let fleet: FleetContext | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

async function bookings({ ctx }: FleetContext) {
  return queryRows<{ name: string; allocated: number; booked: number; allocatable: number }>(
    ctx.db,
    sql`select h.name, h.allocated_cpu_millis::float8 as allocated, h.allocatable_cpu_millis::float8 as allocatable,
          (select coalesce(sum(cpu_millis), 0) from sets where host_id = h.id)::float8 as booked
        from hosts h order by h.name`,
  );
}

/**
 * One set is placed on h1, another is pending. The placement of the second is not committed yet
 * when the resize begins on another connection and waits for the host. Two sets of one core fit on
 * h1. Of three cores, h1 fits one set and h2 none.
 */
test.each(["h1", "h2"])(
  "I2: a set that is placed on %s while a resize waits is part of what the resize checks",
  async (target) => {
    const f = (fleet = await createFleetContext());
    const h1 = await f.enroll("h1");
    await createService(f.ctx, f.tenantId, serviceBody("web"));
    await f.placer.placeSets();
    const h2 = await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 2_000 } });
    await scaleService(f.ctx, f.tenantId, "web", { replicas: 2 }, undefined);
    const [pending] = await queryRows<{ id: string; generation: number }>(
      f.ctx.db,
      sql`select id, generation::float8 as generation from sets where state = 'pending'`,
    );
    assert(pending, "the second set is pending");
    const hostId = target === "h1" ? h1 : h2;
    const others = f.secondContext();
    let commit: () => void = () => undefined;
    const mayCommit = new Promise<void>((resolve) => (commit = resolve));
    let isPlaced: () => void = () => undefined;
    const placed = new Promise<void>((resolve) => (isPlaced = resolve));
    const placement = withTx(others.db, async (tx) => {
      await lockFleetHosts(tx, [h1, h2]);
      const overhead = computeOverhead([null]);
      const place = {
        placementId: "plc_race",
        setId: pending.id,
        hostId,
        score: 0,
        because: {},
        overhead,
      };
      await commitPlacements(tx, [{ ...place, generation: pending.generation }], 1);
      isPlaced();
      await mayCommit;
    });
    await placed;
    const body = resizeServiceBody.parse({ cpu: 3 });
    const resized = resizeService(f.ctx, f.tenantId, "web", body, undefined).then(
      () => "resized",
      (error: unknown) => String(error),
    );
    await waitForLockWait(f.ctx.db, "the resize waits for the host");
    commit();
    await placement;
    expect(await resized).toContain(`No capacity for the new size on ${target}`);
    for (const { allocated, booked, allocatable } of await bookings(f)) {
      expect(allocated).toBe(booked);
      expect(allocated).toBeLessThanOrEqual(allocatable);
    }
  },
);

test("concurrent resizes and placements of one service never book a host beyond its capacity", async () => {
  const f = (fleet = await createFleetContext());
  for (const name of ["h1", "h2", "h3"]) await f.enroll(name);
  const others = f.secondContext();
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  for (let round = 0; round < 12; round++) {
    const cpu = 1 + (round % 4);
    await scaleService(f.ctx, f.tenantId, "web", { replicas: 2 + (round % 5) }, undefined);
    await Promise.all([
      f.placer.placeSets(),
      resizeService(others, f.tenantId, "web", resizeServiceBody.parse({ cpu }), undefined).catch(
        (error: unknown) => expect(String(error)).toContain("No capacity"),
      ),
    ]);
    for (const { allocated, booked, allocatable } of await bookings(f)) {
      expect(allocated).toBe(booked);
      expect(allocated).toBeLessThanOrEqual(allocatable);
    }
  }
});
