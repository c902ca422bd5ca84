import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import {
  allInPlace,
  listEvents,
  listRevisions,
  obeyWith,
  readRollout,
  startRollout,
  twoContainers,
} from "../../support/fleet/rollouts.ts";

let f: FleetContext;
let mover: Mover;
let host: string;

beforeEach(async () => {
  f = await createFleetContext();
  mover = createMover(f.ctx);
  host = await f.enroll("h1");
});
afterEach(() => f.close());

async function run(more: Parameters<typeof twoContainers>[0] = {}): Promise<void> {
  await createService(f.ctx, f.tenantId, twoContainers(more));
  await f.placer.placeSets();
  await obeyWith(f, host);
}

const revisions = async () =>
  (await listRevisions(f)).map(({ revision }) => revision).sort((a, b) => a - b);

test("an update in place changes one set at a time, and completes after each set is ready", async () => {
  await run({ replicas: 3 });
  const { rollout, effects } = await startRollout(f, { strategy: allInPlace });
  expect(rollout).toMatchObject({ number: 1, state: "running", fromRevision: 1, toRevision: 2 });
  expect(effects).toEqual(["Each set stays on its host, and Berth replaces app (in-place)."]);
  for (const expected of [
    [1, 1, 2],
    [1, 2, 2],
    [2, 2, 2],
  ]) {
    await mover.moveSets();
    expect(await revisions()).toEqual(expected);
    const sets = await listRevisions(f);
    expect(sets.filter(({ phase }) => phase === "updating")).toHaveLength(1);
    expect(sets.filter(({ ready }) => ready)).toHaveLength(2);
    // Nothing more changes before the set is ready.
    await mover.moveSets();
    expect(await revisions()).toEqual(expected);
    await obeyWith(f, host);
  }
  await mover.moveSets();
  expect(await readRollout(f)).toMatchObject({
    state: "completed",
    counts: { sets: 3, updated: 3, ready: 3, updating: 0, failed: 0 },
  });
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({
    revision: 2,
    targetRevision: 2,
    settled: true,
  });
  expect(await listEvents(f, "set-updated")).toEqual(
    Array(3).fill("The set has revision 2. Replaced: app."),
  );
  expect(await listEvents(f, "rollout-%")).toEqual([
    "Rollout 1 of web started by Berth: revision 2 for 3 sets.",
    "Rollout 1 of web completed: 3 sets ready with revision 2.",
  ]);
});

test("two concurrent job workers, both new in every round, exceed no budget", async () => {
  await run({ replicas: 4 });
  await startRollout(f, { strategy: allInPlace });
  const second = f.secondContext();
  for (let count = 0; count < 12; count++) {
    // A job worker that is killed loses nothing but its memory.
    await Promise.all([createMover(f.ctx).moveSets(), createMover(second).moveSets()]);
    const sets = await listRevisions(f);
    expect(sets.filter(({ ready }) => ready).length).toBeGreaterThanOrEqual(3);
    await obeyWith(f, host);
  }
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
  expect(await listEvents(f, "set-updated")).toHaveLength(4);
});

test("a change without effect on containers interrupts nothing", async () => {
  await run({ replicas: 2, disruption: { maxUnavailable: 1, maxSurge: 0 } });
  const { effects } = await startRollout(f, {
    containers: { app: { options: { stopTimeoutSeconds: 30 } } },
    strategy: { steps: [{ select: { percent: 100 } }] },
  });
  expect(effects).toEqual(["Berth applies the change without a restart."]);
  await mover.moveSets();
  expect(await listRevisions(f)).toMatchObject([
    { revision: 2, ready: true },
    { revision: 2, ready: true },
  ]);
  await obeyWith(f, host);
  await mover.moveSets();
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});

test("a change that the budget never permits is refused at the start", async () => {
  await run({ replicas: 2, disruption: { maxUnavailable: 0, maxSurge: 1 } });
  const starting = startRollout(f, { strategy: allInPlace });
  await expect(starting).rejects.toThrow("the disruption budget permits no unavailable set");
});

test("a change of an unknown container, and a template that no request may have, are refused", async () => {
  await run();
  const unknown = startRollout(f, { containers: { db: { image: "db:1" } } });
  await expect(unknown).rejects.toMatchObject({ code: "invalid-request" });
  const optional = { options: { serving: "optional" as const } };
  const nothing = startRollout(f, { containers: { app: optional, trace: optional } });
  await expect(nothing).rejects.toMatchObject({ code: "invalid-request" });
  await expect(startRollout(f, { toRevision: 7 })).rejects.toMatchObject({ code: "not-found" });
});

test("I14: the mover begins waiting updates only within the budget, however many wait", async () => {
  await run({ replicas: 3 });
  await startRollout(f, { strategy: allInPlace });
  await f.ctx.db
    .execute(sql`insert into operations (set_id, service_id, kind, phase, owner, rollout_id, to_revision)
    select s.id, s.service_id, 'update', 'waiting', 'rollout', r.id, 2 from sets s join rollouts r on r.service_id = s.service_id`);
  await mover.moveSets();
  const phases = (await listRevisions(f)).map(({ phase }) => phase);
  expect(phases.toSorted((a, b) => (a ?? "").localeCompare(b ?? ""))).toEqual([
    "updating",
    "waiting",
    "waiting",
  ]);
});
