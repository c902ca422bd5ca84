import { afterEach, beforeEach, expect, test } from "vitest";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import {
  allInPlace,
  listRevisions,
  obeyWith,
  passTime,
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

const countReady = async () => (await listRevisions(f)).filter(({ ready }) => ready).length;

test("sets that serve, but not for minReadySeconds yet, do not stop together", async () => {
  const disruption = { maxUnavailable: 1, maxSurge: 1, minReadySeconds: 60 };
  await createService(f.ctx, f.tenantId, twoContainers({ replicas: 4, disruption }));
  await f.placer.placeSets();
  await obeyWith(f, host);
  expect(await countReady()).toBe(4);
  await startRollout(f, { strategy: allInPlace });
  await mover.moveSets();
  await mover.moveSets();
  expect(await countReady()).toBeGreaterThanOrEqual(3);
  for (let count = 0; count < 12; count++) {
    await passTime(f, 61);
    await mover.moveSets();
    expect(await countReady()).toBeGreaterThanOrEqual(3);
    await obeyWith(f, host);
  }
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});
