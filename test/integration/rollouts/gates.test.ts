import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { addMeasurement } from "../../../src/control/rollouts/add-measurement.ts";
import { changeRollout } from "../../../src/control/rollouts/change-rollout.ts";
import { promoteRollout } from "../../../src/control/rollouts/promote-rollout.ts";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import {
  allInPlace,
  type ImageBehavior,
  listEvents,
  listRevisions,
  obeyWith,
  passTime,
  readRollout,
  rolloutCaller,
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

async function run(replicas: number): Promise<void> {
  await createService(f.ctx, f.tenantId, twoContainers({ replicas }));
  await f.placer.placeSets();
  await obeyWith(f, host);
}

async function rounds(count: number, behaviors: Record<string, ImageBehavior> = {}): Promise<void> {
  for (let done = 0; done < count; done++) {
    // A round that follows another one immediately would find the rollout not due.
    await f.ctx.db.execute(sql`update rollouts set due_at = now()`);
    await mover.moveSets();
    await obeyWith(f, host, behaviors);
  }
}

const request = { number: 1, reason: null, caller: rolloutCaller };
const change = (action: Parameters<typeof changeRollout>[3], number = 1) =>
  changeRollout(f.ctx, f.tenantId, "web", action, { ...request, number });
const revisions = async () =>
  (await listRevisions(f)).map(({ revision }) => revision).sort((a, b) => a - b);
const broken = (behavior: ImageBehavior) => ({ "menu:43": behavior });

test.each([
  ["gives up", "gives-up" as const, 0],
  ["restarts again and again", { restarts: 3 }, 0],
  ["is not ready before the deadline", "never-ready" as const, 601],
])(
  "a set whose container %s pauses the rollout, after one set",
  async (_what, behavior, seconds) => {
    await run(3);
    await startRollout(f, { strategy: allInPlace });
    await rounds(2, broken(behavior));
    if (seconds > 0) await passTime(f, seconds);
    await rounds(3, broken(behavior));
    expect(await readRollout(f)).toMatchObject({ state: "paused", counts: { failed: 1 } });
    const sets = await listRevisions(f);
    // F5: the set does not leave its host, which would ignore the budget.
    expect(sets.map(({ host: on }) => on)).toEqual(["h1", "h1", "h1"]);
    expect(sets.filter(({ ready }) => ready)).toHaveLength(2);
    expect(await revisions()).toEqual([1, 1, 2]);
  },
);

test("a failed set returns with onFailure rollback, and the service has its previous revision", async () => {
  await run(2);
  await startRollout(f, { strategy: { ...allInPlace, onFailure: "rollback" } });
  await rounds(6, broken("gives-up"));
  expect(await readRollout(f)).toMatchObject({ state: "rolled-back", changedBy: null });
  expect(await revisions()).toEqual([1, 1]);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({
    revision: 1,
    targetRevision: 1,
    settled: true,
  });
});

test("a user pauses, resumes and rolls back; each is recorded with its author", async () => {
  await run(3);
  await startRollout(f, { strategy: allInPlace });
  await mover.moveSets();
  await change("pause");
  await rounds(4);
  expect(await revisions()).toEqual([1, 1, 2]);
  expect(await readRollout(f)).toMatchObject({ state: "paused", counts: { updating: 0 } });
  await change("resume");
  await mover.moveSets();
  expect(await revisions()).toEqual([1, 2, 2]);
  await obeyWith(f, host);
  await change("rollback");
  await rounds(8);
  expect(await revisions()).toEqual([1, 1, 1]);
  expect(await readRollout(f)).toMatchObject({ state: "rolled-back" });
  await expect(change("resume")).rejects.toThrow("nothing to resume");
  expect(await listEvents(f, "rollout-%")).toEqual([
    "Rollout 1 of web started by Berth: revision 2 for 3 sets.",
    "Rollout 1 of web paused by tok_ann.",
    "Rollout 1 of web resumed by tok_ann.",
    "Rollout 1 of web is being rolled back by tok_ann.",
    "Rollout 1 of web rolled back: its sets have revision 1 again.",
  ]);
});

test("the partition moves up and down, and a manual step waits for a user", async () => {
  await run(4);
  const manual = { promote: "manual" as const };
  const steps = [{ select: { percent: 50 }, ...manual }, { select: { percent: 100 } }];
  await startRollout(f, { strategy: { method: "in-place", steps } });
  await rounds(8);
  expect(await revisions()).toEqual([1, 1, 2, 2]);
  expect(await readRollout(f)).toMatchObject({ phase: "awaiting-promotion" });
  await promoteRollout(f.ctx, f.tenantId, "web", { ...request, select: { count: 1 } });
  await rounds(6);
  expect(await revisions()).toEqual([1, 1, 1, 2]);
  await promoteRollout(f.ctx, f.tenantId, "web", request);
  await rounds(10);
  expect(await revisions()).toEqual([2, 2, 2, 2]);
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});

test("a step with a metric waits for recent values within their bounds", async () => {
  await run(2);
  const promote = { metric: "errors", max: 0.1, forSeconds: 30, staleSeconds: 60 };
  const steps = [{ select: { count: 1 }, promote }];
  await startRollout(f, { strategy: { method: "in-place", steps } });
  const send = (value: number) =>
    addMeasurement(f.ctx, f.tenantId, "web", { number: 1, metric: "errors", value });
  await rounds(3);
  expect(await revisions()).toEqual([1, 2]);
  await passTime(f, 100);
  await rounds(2);
  for (const value of [0.05, 0.5, 0.05]) {
    await send(value);
    await rounds(1);
  }
  expect(await readRollout(f)).toMatchObject({ step: 1 });
  await passTime(f, 31);
  await send(0.02);
  await rounds(4);
  expect(await readRollout(f)).toMatchObject({ step: 2, state: "completed" });
  await expect(send(0.02)).rejects.toThrow("no step of it waits");
});

test("a second rollout is rejected, waits, or repairs a broken one although the budget is used up", async () => {
  await run(2);
  await startRollout(f, { strategy: allInPlace });
  await expect(startRollout(f)).rejects.toThrow("Rollout 1 of the service is running");
  const trace = { containers: { trace: { image: "trace:2" } }, strategy: allInPlace };
  await startRollout(f, { ...trace, ifActive: "wait" });
  await expect(startRollout(f, { ...trace, ifActive: "wait" })).rejects.toThrow("already waits");
  await change("rollback", 2);
  expect(await readRollout(f, 2)).toMatchObject({ state: "canceled" });
  await startRollout(f, { ...trace, ifActive: "wait" });
  await rounds(5, broken("gives-up"));
  expect(await readRollout(f)).toMatchObject({ state: "paused" });
  const repair = { containers: { app: { image: "menu:44" } }, strategy: allInPlace };
  const { effects } = await startRollout(f, { ...repair, ifActive: "supersede" });
  expect(effects.slice(0, 2)).toEqual(["Rollout 1 ends.", "The change applies to revision 1."]);
  expect(await readRollout(f)).toMatchObject({ state: "superseded" });
  await rounds(6, broken("gives-up"));
  expect(await readRollout(f, 4)).toMatchObject({ state: "completed", toRevision: 3 });
  // The one that waited starts with the template of that time.
  await rounds(6);
  expect(await readRollout(f, 3)).toMatchObject({ state: "completed", toRevision: 4 });
  const { template } = await getService(f.ctx, f.tenantId, "web");
  expect(template.containers.map(({ image }) => image)).toEqual(["menu:44", "trace:2"]);
});

test("a rollout that waited is canceled if the quota does not permit it", async () => {
  await run(2);
  await startRollout(f, { strategy: allInPlace });
  const options = { cpu: 50, memory: 50 };
  const large = {
    cpu: 8,
    memory: "1Gi",
    rootfs: "1Gi",
    containers: [
      { index: 0, name: "app", image: "menu:99", options },
      { index: 0, name: "trace", image: "trace:1", options },
    ],
  };
  await startRollout(f, { template: large, strategy: allInPlace, ifActive: "wait" });
  await f.ctx.db.execute(sql`update tenants set cpu_millis_max = 4000`);
  await rounds(6);
  expect(await readRollout(f, 1)).toMatchObject({ state: "completed" });
  expect(await readRollout(f, 2)).toMatchObject({ state: "canceled" });
  expect((await getService(f.ctx, f.tenantId, "web")).size.cpuMillis).toBe(1_000);
});

test("the deletion of a service cancels its rollouts", async () => {
  await run(2);
  await startRollout(f, { strategy: allInPlace });
  await mover.moveSets();
  await startRollout(f, { ifActive: "wait" });
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  expect(await readRollout(f, 1)).toMatchObject({ state: "canceled" });
  expect(await readRollout(f, 2)).toMatchObject({ state: "canceled" });
  await rounds(2);
});

test("a restart replaces all containers of each set once", async () => {
  await run(2);
  await startRollout(f, { restart: true, strategy: allInPlace });
  await rounds(6);
  expect(await readRollout(f)).toMatchObject({ kind: "restart", state: "completed" });
  expect(await revisions()).toEqual([1, 1]);
  expect(await listEvents(f, "set-updated")).toHaveLength(2);
});
