import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { RolloutState } from "../../../src/contracts/api/rollouts.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { rollouts, rolloutSets } from "../../../src/db/schema/rollouts.ts";
import { newId } from "../../../src/lib/ids.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";

let f: FleetContext;
let serviceId: string;
beforeEach(async () => {
  f = await createFleetContext();
  const { service } = await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 0 }));
  serviceId = service.id;
});
afterEach(() => f.close());

const activeStates = ["running", "paused", "rolling-back"] as const;
const endedStates = ["completed", "rolled-back", "failed", "superseded", "canceled"] as const;
let number = 0;

async function insertRollout(state: RolloutState): Promise<string> {
  const id = newId("rlt");
  const { db } = f.ctx;
  await db.insert(rollouts).values({
    id,
    tenantId: f.tenantId,
    serviceId,
    number: ++number,
    kind: "update",
    state,
    change: { restart: true },
    strategy: {
      method: "auto",
      steps: [{ select: { percent: 100 }, promote: "auto" }],
      parallel: null,
      progressDeadlineSeconds: 600,
      onFailure: "pause",
      unreadySeconds: 10,
      restartsMax: 3,
    },
    endedAt: endedStates.some((ended) => ended === state) ? new Date() : null,
  });
  return id;
}

const violates = (constraint: string) => ({ cause: { constraint_name: constraint } });

it.each(activeStates)("a service has at most one active rollout: %s", async (state) => {
  await insertRollout(state);
  for (const other of activeStates)
    await expect(insertRollout(other)).rejects.toMatchObject(violates("rollouts_active_unique"));
  await insertRollout("queued");
  await expect(insertRollout("queued")).rejects.toMatchObject(violates("rollouts_queued_unique"));
  for (const ended of [...endedStates, ...endedStates]) await insertRollout(ended);
});

it("the numbers of a service's rollouts are unique", async () => {
  await insertRollout("completed");
  number--;
  await expect(insertRollout("completed")).rejects.toMatchObject(
    violates("rollouts_number_unique"),
  );
});

it("records of sets end with an outcome, and with their rollout", async () => {
  const rolloutId = await insertRollout("running");
  const record = { rolloutId, step: 0, method: "in-place", direction: "to" } as const;
  const { db } = f.ctx;
  await db.insert(rolloutSets).values({ ...record, setId: newId("set") });
  const ended = { ...record, setId: newId("set"), endedAt: new Date() };
  await expect(db.insert(rolloutSets).values(ended)).rejects.toMatchObject(
    violates("rollout_sets_outcome_at_end"),
  );
  await db.insert(rolloutSets).values({ ...ended, outcome: "done" });
  await db.execute(sql`delete from rollouts where id = ${rolloutId}`);
  expect(await queryRows(db, sql`select set_id from rollout_sets`)).toEqual([]);
});
