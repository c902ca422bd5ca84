import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import type { ObservedSet } from "../../../src/contracts/agent-protocol/observed-set.ts";
import type { Sync } from "../../../src/contracts/agent-protocol/sync.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { STARTUP_SECONDS_MAX } from "../../../src/db/queries/sets/observed-sets.ts";
import { STARTUP_MS_MAX } from "../../../src/scheduler/placement/unreported-amounts.ts";
import {
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";

const gib = 2 ** 30;
/** The booked memory of a set: its own, and the overhead of two containers. */
const each = gib + 16 * 2 ** 20;
const start = fleetPerTest();

/** Places a service of one set, and reports the set in this state. Returns its id. */
async function startService(
  f: FleetContext,
  hostId: string,
  name: string,
  state: ObservedSet["state"],
): Promise<string> {
  await createService(f.ctx, f.tenantId, serviceBody(name));
  await f.placer.placeSets();
  const { sets } = await f.sync(hostId, { full: true });
  const set = sets.find(({ service }) => service === name);
  if (!set) throw new Error(`the host has no set of ${name}`);
  await f.sync(hostId, { observed: [observed(set, state)] });
  return set.setId;
}

function usage(setMemoryBytes: Record<string, number> = {}): Partial<Sync> {
  const used = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  return {
    usage: {
      used,
      allocatable: smallHost,
      reclaimableVolumeBytes: 0,
      trashedVolumeBytes: 0,
      volumeReason: null,
      disk: null,
      setMemoryBytes,
    },
  };
}

async function unreportedMemory(f: FleetContext): Promise<number | undefined> {
  const rows = await queryRows<{ bytes: number }>(
    f.ctx.db,
    sql`select unreported_memory_bytes::float8 as bytes from hosts`,
  );
  return rows[0]?.bytes;
}

/** The host's agent reports that the sets that it is ordered to delete are absent. */
async function removeSets(f: FleetContext, hostId: string): Promise<void> {
  const { sets } = await f.sync(hostId, { full: true });
  const removed = sets.filter((set) => set.desired === "deleted");
  await f.sync(hostId, { observed: removed.map((set) => observed(set, "absent")) });
}

test("removing a running set does not reduce the unreported usage", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await startService(f, hostId, "runs", "running");
  await f.sync(hostId, usage());
  await startService(f, hostId, "starts", "preparing");
  expect(await unreportedMemory(f)).toBe(each);
  await deleteService(f.ctx, f.tenantId, "runs", undefined);
  await removeSets(f, hostId);
  expect(await unreportedMemory(f)).toBe(each);
});

test("a set that is removed before it ran releases its unreported usage, even after a report", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await startService(f, hostId, "stays", "preparing");
  await startService(f, hostId, "goes", "preparing");
  await deleteService(f.ctx, f.tenantId, "goes", undefined);
  await f.sync(hostId, usage());
  expect(await unreportedMemory(f)).toBe(2 * each);
  await removeSets(f, hostId);
  expect(await unreportedMemory(f)).toBe(each);
});

test("memory that the host measures for a starting set is not counted twice", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  const setId = await startService(f, hostId, "web", "starting");
  await f.sync(hostId, usage({ [setId]: gib / 4 }));
  expect(await unreportedMemory(f)).toBe(each - gib / 4);
});

test("a set that is in `starting` for long counts with its measured usage only", async () => {
  expect(STARTUP_SECONDS_MAX * 1_000).toBe(STARTUP_MS_MAX);
  const f = await start();
  const hostId = await f.enroll("h1");
  await startService(f, hostId, "web", "starting");
  await f.ctx.db.execute(
    sql`update sets set starting_at = starting_at - make_interval(secs => ${STARTUP_SECONDS_MAX})`,
  );
  await f.sync(hostId, usage());
  expect(await unreportedMemory(f)).toBe(0);
});
