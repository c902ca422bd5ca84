import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
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
let hosts: string[];

beforeEach(async () => {
  f = await createFleetContext({ hostLostGraceMs: 0 });
  mover = createMover(f.ctx);
  hosts = [await f.enroll("h1"), await f.enroll("h2"), await f.enroll("h3")];
  const placement = { spread: [{ by: "host" as const, maxSkew: 1 }] };
  await createService(f.ctx, f.tenantId, twoContainers({ replicas: 3, placement }));
  await f.placer.placeSets();
  await obey();
});
afterEach(() => f.close());

async function obey(): Promise<void> {
  for (const host of hosts) await obeyWith(f, host);
}

async function rounds(count: number): Promise<void> {
  for (let done = 0; done < count; done++) {
    await f.ctx.db.execute(sql`update rollouts set due_at = now()`);
    await f.ctx.db.execute(sql`update operations set due_at = now() where phase = 'waiting'`);
    await mover.moveSets();
    await f.placer.placeSets();
    await obey();
  }
}

async function lose(hostId: string): Promise<void> {
  hosts = hosts.filter((id) => id !== hostId);
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 second' where id = ${hostId}`,
  );
  await replaceSetsOfLostHosts(f.ctx);
}

async function hostOf(phase: string): Promise<string> {
  const set = (await listRevisions(f)).find((each) => each.phase === phase);
  return hosts[Number(set?.host?.slice(1)) - 1] ?? "";
}

test("the loss of a host during the update of its set pauses nothing, and the rollout completes", async () => {
  await startRollout(f, { strategy: allInPlace });
  await mover.moveSets();
  await lose(await hostOf("updating"));
  await rounds(12);
  const sets = await listRevisions(f);
  expect(sets.map(({ revision, ready }) => `${revision} ${ready}`)).toEqual([
    "2 true",
    "2 true",
    "2 true",
  ]);
  expect(await readRollout(f)).toMatchObject({ state: "completed", counts: { failed: 0 } });
});

test("the loss of the host of a replaced set leaves its replacement in place", async () => {
  await startRollout(f, { strategy: { steps: [{ select: { percent: 100 } }] } });
  await mover.moveSets();
  await lose(await hostOf("replacing"));
  await rounds(12);
  const sets = await listRevisions(f);
  expect(sets.map(({ revision, ready }) => `${revision} ${ready}`)).toEqual([
    "2 true",
    "2 true",
    "2 true",
  ]);
  expect(await readRollout(f)).toMatchObject({ state: "completed", counts: { failed: 0 } });
});

test("I14: two drains and a rollout together leave all sets but one available", async () => {
  await startRollout(f, { strategy: { steps: [{ select: { percent: 100 } }] } });
  await drainHost(f.ctx, hosts[0] ?? "");
  await drainHost(f.ctx, hosts[1] ?? "");
  for (let count = 0; count < 14; count++) {
    await rounds(1);
    const ready = (await listRevisions(f)).filter((set) => set.ready);
    expect(ready.length).toBeGreaterThanOrEqual(2);
  }
  const sets = await listRevisions(f);
  expect(sets.map(({ host, revision }) => `${host} ${revision}`)).toEqual(["h3 2", "h3 2", "h3 2"]);
  expect(await readRollout(f)).toMatchObject({ state: "completed" });
});
