import { sql } from "drizzle-orm";
import type { z } from "zod";
import { afterEach, beforeEach, expect, test } from "vitest";
import { patchServiceBody } from "../../../src/contracts/api/services.ts";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { promoteRollout } from "../../../src/control/rollouts/promote-rollout.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { resizeService } from "../../../src/control/services/resize-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { moveSet } from "../../../src/control/sets/move-set.ts";
import { countReadySets } from "../../../src/db/queries/autoscaling/states.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import {
  allInPlace,
  listRevisions,
  obeyWith,
  readRollout,
  rolloutCaller,
  startRollout,
  twoContainers,
} from "../../support/fleet/rollouts.ts";

let f: FleetContext;
let mover: Mover;
let hosts: string[];

beforeEach(async () => {
  f = await createFleetContext();
  mover = createMover(f.ctx);
  hosts = [await f.enroll("h1"), await f.enroll("h2")];
});
afterEach(() => f.close());

async function run(replicas: number): Promise<void> {
  await createService(f.ctx, f.tenantId, twoContainers({ replicas }));
  await f.placer.placeSets();
  await obey();
}

async function obey(): Promise<void> {
  for (const host of hosts) await obeyWith(f, host);
}

async function rounds(count: number): Promise<void> {
  for (let done = 0; done < count; done++) {
    await mover.moveSets();
    await f.placer.placeSets();
    await obey();
  }
}

const revisions = async () =>
  (await listRevisions(f)).map(({ revision }) => revision).sort((a, b) => a - b);
const scale = (replicas: number) => scaleService(f.ctx, f.tenantId, "web", { replicas }, undefined);
const halfManual = {
  method: "in-place" as const,
  steps: [{ select: { percent: 50 }, promote: "manual" as const }],
};

test("sets of a scale-out follow the partition, and a scale-in pauses nothing", async () => {
  await run(2);
  await startRollout(f, { strategy: halfManual });
  await rounds(4);
  expect(await revisions()).toEqual([1, 2]);
  await scale(6);
  expect(await revisions()).toEqual([1, 1, 1, 2, 2, 2]);
  await rounds(3);
  await scale(3);
  await rounds(4);
  const { state, counts } = await readRollout(f);
  expect({ state, sets: counts.sets }).toEqual({ state: "running", sets: 3 });
  const request = { number: 1, reason: null, caller: rolloutCaller };
  await promoteRollout(f.ctx, f.tenantId, "web", { ...request, isFull: true });
  await rounds(8);
  expect(await revisions()).toEqual([2, 2, 2]);
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});

test("a user's move of a waiting set goes first, and the set gets the target afterwards", async () => {
  await run(2);
  await startRollout(f, { strategy: allInPlace });
  await mover.moveSets();
  const waiting = (await listRevisions(f)).find(({ phase }) => phase !== "updating");
  const from = waiting?.host;
  await moveSet(f.ctx, f.tenantId, waiting?.id ?? "");
  await rounds(8);
  const sets = await listRevisions(f);
  expect(sets.map(({ revision }) => revision)).toEqual([2, 2]);
  expect(sets.some(({ id }) => id === waiting?.id)).toBe(false);
  expect(sets.filter(({ host }) => host === from)).toHaveLength(1);
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});

test("a resize during an update waits, and the set then has both", async () => {
  await run(1);
  await startRollout(f, { strategy: allInPlace });
  await mover.moveSets();
  await resizeService(f.ctx, f.tenantId, "web", { cpu: 2_000, ifNoCapacity: "refuse" }, undefined);
  const before = await queryRows(f.ctx.db, sql`select cpu_millis::int as cpu from sets`);
  expect(before).toEqual([{ cpu: 1_000 }]);
  await rounds(6);
  const after = await queryRows(f.ctx.db, sql`select cpu_millis::int as cpu, revision from sets`);
  expect(after).toEqual([{ cpu: 2_000, revision: 2 }]);
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});

test("a set that a user stopped gets the target without a start", async () => {
  await run(2);
  const [first] = await listRevisions(f);
  await controlSet(f.ctx, f.tenantId, first?.id ?? "", "stop");
  await obey();
  await startRollout(f, { strategy: allInPlace });
  await rounds(6);
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
  const sets = await listRevisions(f);
  expect(sets.map(({ revision, desired }) => `${revision} ${desired}`).sort()).toEqual([
    "2 running",
    "2 stopped",
  ]);
});

test("F6: a replacement does not count as a ready set of the service", async () => {
  await run(2);
  await startRollout(f, { strategy: { steps: [{ select: { percent: 100 } }] } });
  await mover.moveSets();
  await f.placer.placeSets();
  await obey();
  expect((await listRevisions(f)).filter(({ ready }) => ready)).toHaveLength(3);
  const [service] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from services`);
  expect(await countReadySets(f.ctx.db, service?.id ?? "")).toBe(2);
});

test("F11: a report wakes the mover for an update, and not for a set without change", async () => {
  await run(1);
  await startRollout(f, { strategy: allInPlace });
  await mover.moveSets();
  f.enqueued.length = 0;
  await obey();
  expect(f.enqueued.map(({ name }) => name)).toContain("move-sets");
  f.enqueued.length = 0;
  await obey();
  expect(f.enqueued).toEqual([]);
});

test("a patch starts a rollout with the strategy of the service, and supersedes one on request", async () => {
  await run(1);
  await startRollout(f, { strategy: allInPlace });
  const generation = async () => {
    const rows = await queryRows<{ generation: number }>(
      f.ctx.db,
      sql`select generation::int as generation from services`,
    );
    return rows[0]?.generation ?? 0;
  };
  const patch = async (body: z.input<typeof patchServiceBody>) =>
    patchService(f.ctx, f.tenantId, "web", await generation(), patchServiceBody.parse(body));
  const options = { cpu: 50, memory: 50 };
  const containers = [
    { index: 0, name: "app", image: "menu:44", options },
    { index: 0, name: "trace", image: "trace:1", options },
  ];
  const template = { cpu: 1, memory: "1Gi", rootfs: "1Gi", containers };
  const refused = "Rollout 1 of the service is running";
  await expect(patch({ template })).rejects.toThrow(refused);
  await expect(patch({ template, adopt: "rollout" })).rejects.toThrow(refused);
  await patch({ priority: 50, rollout: allInPlace ?? null });
  const { effects } = await patch({ template, adopt: "rollout", ifActive: "supersede" });
  expect(effects).toEqual([
    "Rollout 2 updates the sets to revision 3.",
    "Each set stays on its host, and Berth replaces app (in-place).",
    "The set does not serve during its update.",
  ]);
  await rounds(5);
  expect(await readRollout(f)).toMatchObject({ state: "superseded" });
  expect(await readRollout(f, 2)).toMatchObject({ state: "completed", toRevision: 3 });
  // The same template has nothing to roll out.
  const again = await patch({ template, adopt: "rollout" });
  expect(again.effects).toEqual(["The change affects none of the sets."]);
});
