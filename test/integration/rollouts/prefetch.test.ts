import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import {
  allInPlace,
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
  await createService(f.ctx, f.tenantId, twoContainers({ replicas: 1 }));
  await f.placer.placeSets();
  await obeyWith(f, host);
  const features = JSON.stringify({ features: ["prefetch"] });
  await f.ctx.db.execute(
    sql`update hosts set capabilities = coalesce(capabilities, '{}'::jsonb) || ${features}::jsonb`,
  );
  await startRollout(f, { strategy: allInPlace });
});
afterEach(() => f.close());

const revisions = async () => (await listRevisions(f)).map(({ revision }) => revision);
const image = { reference: "menu:43", tenant: "food" };

test("an update in place begins only after its host has pulled the image", async () => {
  await mover.moveSets();
  expect(await revisions()).toEqual([1]);
  expect(await readRollout(f)).toMatchObject({ phase: "preparing" });
  const { prefetch } = await f.sync(host);
  expect(prefetch).toEqual([
    { ...image, purpose: "pull" },
    { reference: "menu:42", tenant: "food", purpose: "retain" },
  ]);
  // The agent repeats a pull that may succeed later.
  await f.sync(host, { prefetched: [{ ...image, state: "failed", isPermanent: false }] });
  await mover.moveSets();
  expect(await readRollout(f)).toMatchObject({ state: "running" });
  f.enqueued.length = 0;
  await f.sync(host, { prefetched: [{ ...image, state: "pulled" }] });
  expect(f.enqueued.map(({ name }) => name)).toContain("move-sets");
  await mover.moveSets();
  expect(await revisions()).toEqual([2]);
  await obeyWith(f, host);
  await mover.moveSets();
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
  expect((await f.sync(host, { full: true })).prefetch).toEqual([]);
});

test("an image that no host can pull pauses the rollout before anything has stopped", async () => {
  await mover.moveSets();
  await f.sync(host, { prefetched: [{ ...image, state: "failed", isPermanent: true }] });
  await mover.moveSets();
  expect(await readRollout(f)).toMatchObject({
    state: "paused",
    reason: { text: expect.stringContaining("cannot pull an image") },
  });
  expect(await listRevisions(f)).toMatchObject([{ revision: 1, ready: true, phase: null }]);
});
