import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import {
  listRevisions,
  obeyWith,
  passTime,
  readRollout,
  startRollout,
  twoContainers,
} from "../../support/fleet/rollouts.ts";

let f: FleetContext;
let mover: Mover;
let hosts: string[];

beforeEach(async () => {
  f = await createFleetContext();
  mover = createMover(f.ctx);
  hosts = [await f.enroll("h1")];
});
afterEach(() => f.close());

async function run(more: Parameters<typeof twoContainers>[0] = {}): Promise<void> {
  await createService(f.ctx, f.tenantId, twoContainers(more));
  await f.placer.placeSets();
  await obey();
}

async function obey(behaviors: Parameters<typeof obeyWith>[2] = {}): Promise<void> {
  for (const host of hosts) await obeyWith(f, host, behaviors);
}

/** One round of all parts of the fleet. */
async function round(behaviors: Parameters<typeof obeyWith>[2] = {}): Promise<void> {
  await mover.moveSets();
  await f.placer.placeSets();
  await obey(behaviors);
}

const revisions = async () =>
  (await listRevisions(f)).map(({ revision }) => revision).sort((a, b) => a - b);
const atOnce = { steps: [{ select: { percent: 100 } }] };

test("on one host, each set is removed only after another one is ready in its place", async () => {
  await run({ replicas: 3 });
  const before = (await listRevisions(f)).map(({ id }) => id);
  const { effects } = await startRollout(f, { strategy: atOnce });
  expect(effects).toEqual(["Another set becomes ready before each set is removed (start-first)."]);
  for (let count = 0; count < 12; count++) {
    await round();
    const sets = await listRevisions(f);
    expect(sets.filter(({ ready }) => ready).length).toBeGreaterThanOrEqual(3);
    expect(sets.length).toBeLessThanOrEqual(4);
    const { state } = await readRollout(f);
    if (state === "completed") break;
  }
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
  const after = await listRevisions(f);
  expect(after.map(({ revision }) => revision)).toEqual([2, 2, 2]);
  expect(after.filter(({ id }) => before.includes(id))).toEqual([]);
});

test("the default strategy updates one set, waits, and then updates the others", async () => {
  await run({ replicas: 3 });
  await startRollout(f);
  for (let count = 0; count < 4; count++) await round();
  expect(await revisions()).toEqual([1, 1, 2]);
  expect(await readRollout(f)).toMatchObject({ step: 1, steps: 2, phase: "soaking" });
  await passTime(f, 11);
  for (let count = 0; count < 10; count++) await round();
  expect(await revisions()).toEqual([2, 2, 2]);
  expect(await readRollout(f)).toMatchObject({ step: 2, state: "completed" });
});

test("a set on a draining host gets the target with its move", async () => {
  await run({ replicas: 1 });
  hosts.push(await f.enroll("h2"));
  await startRollout(f, { strategy: atOnce });
  await drainHost(f.ctx, hosts[0] ?? "");
  for (let count = 0; count < 6; count++) await round();
  expect(await listRevisions(f)).toMatchObject([{ host: "h2", revision: 2, phase: null }]);
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});

test("a replacement that never becomes ready pauses the rollout, and the set serves on", async () => {
  await run({ replicas: 2 });
  await startRollout(f, { strategy: atOnce });
  const broken = { "menu:43": "never-ready" as const };
  for (let count = 0; count < 3; count++) await round(broken);
  expect(await readRollout(f)).toMatchObject({ state: "running" });
  await passTime(f, 601);
  await round(broken);
  expect(await readRollout(f)).toMatchObject({
    state: "paused",
    changedBy: null,
    counts: { failed: 1 },
    reason: { code: "rollout-set-failed" },
  });
  const sets = await listRevisions(f);
  expect(sets.filter(({ ready, revision }) => ready && revision === 1)).toHaveLength(2);
  expect(sets).toHaveLength(3);
  const operations = await queryRows(f.ctx.db, sql`select phase from operations`);
  expect(operations).toEqual([{ phase: "replacing" }]);
});

test("a set whose replacement no host takes changes in place, unless start-first was requested", async () => {
  await run({ replicas: 4 });
  await startRollout(f, { strategy: { method: "start-first", ...atOnce } });
  for (let count = 0; count < 6; count++) await round();
  expect(await revisions()).toEqual([1, 1, 1, 1]);
  await startRollout(f, { strategy: atOnce, ifActive: "supersede" });
  for (let count = 0; count < 16; count++) {
    await f.ctx.db.execute(sql`update operations set due_at = now()`);
    await round();
    expect((await listRevisions(f)).filter(({ ready }) => ready).length).toBeGreaterThanOrEqual(3);
  }
  expect(await readRollout(f, 2)).toMatchObject({ state: "completed" });
  expect(await revisions()).toEqual([2, 2, 2, 2]);
});
