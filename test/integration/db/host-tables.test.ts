import { eq, sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, it } from "vitest";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { hostMaintenances } from "../../../src/db/schema/host-maintenances.ts";
import { hosts } from "../../../src/db/schema/hosts.ts";
import { newId } from "../../../src/lib/ids.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";

let f: FleetContext;
let hostId: string;
beforeEach(async () => {
  f = await createFleetContext();
  hostId = await f.enroll("host-1");
});
afterEach(() => f.close());

async function readChangedXid(): Promise<unknown> {
  const query = sql`select changed_xid::text as xid from hosts where id = ${hostId}`;
  return (await queryRows<{ xid: string }>(f.ctx.db, query))[0]?.xid;
}

it("a quarantine marks the host as changed, so that planners read it again", async () => {
  const before = await readChangedXid();
  await f.ctx.db.update(hosts).set({ agentVersion: "2" }).where(eq(hosts.id, hostId));
  expect(await readChangedXid()).toBe(before);
  const at = new Date().toISOString();
  const reason = { code: "host-quarantined", text: "Three starts failed." };
  const quarantine = { since: at, until: at, count: 1, reason };
  await f.ctx.db.update(hosts).set({ quarantine }).where(eq(hosts.id, hostId));
  expect(await readChangedXid()).not.toBe(before);
});

it("a maintenance ends after its start, and goes with its host", async () => {
  const { db } = f.ctx;
  const insert = (startsAt: Date, endsAt: Date) =>
    db
      .insert(hostMaintenances)
      .values({ id: newId("mnt"), hostId, startsAt, endsAt, action: "drain" });
  const [now, later] = [new Date(0), new Date(1)];
  await insert(now, later);
  await expect(insert(later, now)).rejects.toMatchObject({
    cause: { constraint_name: "host_maintenances_end_after_start" },
  });
  await db.delete(hosts).where(eq(hosts.id, hostId));
  expect(await db.select().from(hostMaintenances)).toEqual([]);
});
