import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { uncordonHost } from "../../../src/control/hosts/uncordon-host.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { moveSet } from "../../../src/control/sets/move-set.ts";
import { resizeService } from "../../../src/control/services/resize-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";

const GiB = 2 ** 30;
let f: FleetContext;
let mover: Mover;

beforeEach(async () => {
  f = await createFleetContext();
  mover = createMover(f.ctx);
});
afterEach(() => f.close());

type Service = Parameters<typeof serviceBody>[1];

async function run(more: Service = {}): Promise<void> {
  await createService(f.ctx, f.tenantId, serviceBody("web", more));
  await f.placer.placeSets();
}

const obey = (hostId: string) => obeyOrders(f, hostId);
const sets = () => listLiveSets(f);
const hosts = async () => (await sets()).map(({ host, desired }) => `${host} ${desired}`);

async function events(kind: string): Promise<string[]> {
  const rows = await queryRows<{ text: string }>(
    f.ctx.db,
    sql`select text from events where kind = ${kind} order by id`,
  );
  return rows.map(({ text }) => text);
}

test("a drain replaces one set of a service at a time, and removes it once the other is ready", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 2 });
  await obey(h1);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(1);
  for (const steps of [2, 1]) {
    await f.placer.placeSets();
    expect(await hosts()).toContain("h2 running");
    // Nothing more moves, and no set is removed, before the replacement is ready.
    expect(await mover.moveSets()).toBe(0);
    await obey(h2);
    expect((await sets()).filter(({ ready }) => ready)).toHaveLength(3);
    // The replaced set is removed. The same round replaces the next one.
    expect(await mover.moveSets()).toBe(steps);
    expect((await sets()).filter(({ ready }) => ready)).toHaveLength(2);
    await obey(h1);
  }
  expect(await hosts()).toEqual(["h2 running", "h2 running"]);
  expect(await mover.moveSets()).toBe(0);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({ settled: true, replicas: 2 });
});

test("a set that fits nowhere else stays on its draining host, and one event says why", async () => {
  const h1 = await f.enroll("h1");
  await run();
  await obey(h1);
  await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 500 } });
  await drainHost(f.ctx, h1);
  for (let round = 0; round < 3; round++) expect(await mover.moveSets()).toBe(0);
  const [set] = await sets();
  expect(set).toMatchObject({ host: "h1", ready: true });
  const reason = {
    code: "move-held",
    text: expect.stringContaining("stays on host h1 until another host has capacity"),
  };
  expect(await getSet(f.ctx, f.tenantId, set?.id ?? "")).toMatchObject({ reason });
  expect(await events("set-warning")).toHaveLength(1);
  await uncordonHost(f.ctx, h1);
  expect(await getSet(f.ctx, f.tenantId, set?.id ?? "")).toMatchObject({ reason: null });
});

test("a set with a volume leaves its host first, when another host fits, and an event says where its data stays", async () => {
  const volumes = { ...smallHost, volumeBytes: 10 * GiB };
  const h1 = await f.enroll("h1", { allocatable: volumes });
  const { template } = serviceBody("web");
  const volume = { size: "1Gi", mountPath: "/data" };
  await createService(
    f.ctx,
    f.tenantId,
    serviceBody("web", {
      template: {
        cpu: template.cpuMillis / 1000,
        memory: "1Gi",
        volume,
        containers: [
          { index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } },
        ],
      },
    }),
  );
  await f.placer.placeSets();
  await obey(h1);
  const [before] = await sets();
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(0); // there is no other host
  expect(await sets()).toEqual([before]);
  const h2 = await f.enroll("h2", { allocatable: volumes });
  // I13: a drain alone does not separate a set from its volume.
  expect(await mover.moveSets()).toBe(0);
  expect(await sets()).toEqual([before]);
  expect(await getSet(f.ctx, f.tenantId, before?.id ?? "")).toMatchObject({
    operation: { kind: "move", owner: "drain", blocked: { code: "volume-bound" } },
  });
  await drainHost(f.ctx, h1, { discardVolumes: true });
  expect(await mover.moveSets()).toBe(1);
  await obey(h1);
  await mover.moveSets();
  await obey(h2);
  expect(await sets()).toEqual([{ ...before, host: "h2" }]);
  expect((await events("set-moved")).join()).toContain(
    "Its volume goes to the trash of the host; it gets an empty volume.",
  );
});

test("a service whose sets are not ready for minReadySeconds yet is scaled to zero immediately", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 3, disruption: { minReadySeconds: 300 } });
  await obey(h1);
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 0 }, undefined);
  expect((await sets()).map(({ desired }) => desired)).toEqual(["deleted", "deleted", "deleted"]);
});

test("a resize of a drained set survives the end of the drain", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 1 });
  await obey(h1);
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(0); // there is no other host
  await resizeService(f.ctx, f.tenantId, "web", { cpu: 2_000, ifNoCapacity: "refuse" }, undefined);
  await uncordonHost(f.ctx, h1);
  const [set] = await sets();
  expect(await getSet(f.ctx, f.tenantId, set?.id ?? "")).toMatchObject({
    operation: { kind: "resize", owner: "resize" },
  });
  await mover.moveSets();
  await obey(h1);
  const sizes = await queryRows(f.ctx.db, sql`select cpu_millis::int as cpu from sets`);
  expect(sizes).toEqual([{ cpu: 2_000 }]);
});

test("I14: sets that become ready while the mover waits for their host count against the budget", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 3 });
  await f.enroll("h2");
  await drainHost(f.ctx, h1);
  const moving = await withTx(f.ctx.db, async (tx) => {
    await tx.execute(sql`select id from hosts where id = ${h1} for update`);
    const round = mover.moveSets();
    await waitForLockWait(f.ctx.db, "the mover waits for the host");
    await tx.execute(sql`update sets set state = 'running', ready = true`);
    return { round };
  });
  // One replacement: a quarter of three sets, rounded up. No set stops.
  expect(await moving.round).toBe(1);
  const phases = await queryRows(f.ctx.db, sql`select phase from operations order by phase`);
  expect(phases).toEqual([{ phase: "replacing" }, { phase: "waiting" }, { phase: "waiting" }]);
});

test("a stopped set is moved and stays stopped; sets of a lost host are not moved", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 2, onHostLost: "wait" });
  await obey(h1);
  const [stopped, other] = await sets();
  await controlSet(f.ctx, f.tenantId, stopped?.id ?? "", "stop");
  await obey(h1);
  const h2 = await f.enroll("h2");
  await moveSet(f.ctx, f.tenantId, stopped?.id ?? "");
  expect(await mover.moveSets()).toBe(1);
  await obey(h1);
  await mover.moveSets();
  await obey(h2);
  expect(await hosts()).toEqual(["h2 stopped", "h1 running"]);
  await drainHost(f.ctx, h1);
  await f.ctx.db.execute(sql`update hosts set state = 'lost' where id = ${h1}`);
  await f.ctx.db.execute(sql`update sets set state = 'lost', ready = false where host_id = ${h1}`);
  expect(await mover.moveSets()).toBe(0);
  await expect(moveSet(f.ctx, f.tenantId, other?.id ?? "")).rejects.toThrow("host is lost");
});

test("a move by a user waits for capacity, and a scale-in removes the set and its replacement", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 2 });
  await obey(h1);
  const [first] = await sets();
  expect(await moveSet(f.ctx, f.tenantId, first?.id ?? "")).toMatchObject({ moving: true });
  expect(await mover.moveSets()).toBe(0);
  expect(await getSet(f.ctx, f.tenantId, first?.id ?? "")).toMatchObject({
    operation: { owner: "user", phase: "waiting", blocked: { code: "move-held" } },
  });
  const h2 = await f.enroll("h2");
  await moveSet(f.ctx, f.tenantId, first?.id ?? "");
  await mover.moveSets();
  await f.placer.placeSets();
  expect(await hosts()).toEqual(["h1 running", "h1 running", "h2 running"]);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({ settled: false });
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 1 }, undefined);
  await obey(h1);
  await obey(h2);
  expect(await hosts()).toEqual(["h1 running"]);
  expect((await sets())[0]?.id).not.toBe(first?.id);
});

test("stopping a set during its replacement keeps the set and removes the replacement", async () => {
  const h1 = await f.enroll("h1");
  await run();
  await obey(h1);
  const h2 = await f.enroll("h2");
  const [before] = await sets();
  await moveSet(f.ctx, f.tenantId, before?.id ?? "");
  expect(await mover.moveSets()).toBe(1);
  await f.placer.placeSets();
  await controlSet(f.ctx, f.tenantId, before?.id ?? "", "stop");
  for (const host of [h1, h2]) await obey(host);
  expect(await mover.moveSets()).toBeGreaterThan(0);
  for (const host of [h1, h2]) await obey(host);
  expect(await sets()).toMatchObject([{ id: before?.id, desired: "stopped" }]);
});

test("a drain replaces as many sets concurrently as the budget allows, and the others say why they wait", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 4, disruption: { maxSurge: 3 } });
  await obey(h1);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(3);
  const waiting = await queryRows<{ id: string }>(
    f.ctx.db,
    sql`select set_id as id from operations where phase = 'waiting'`,
  );
  expect(await getSet(f.ctx, f.tenantId, waiting[0]?.id ?? "")).toMatchObject({
    reason: { code: "move-waits", text: expect.stringContaining("replacements: 3 of at most") },
  });
  await f.placer.placeSets();
  await obey(h2);
  expect((await sets()).filter(({ ready }) => ready)).toHaveLength(7);
  expect(await mover.moveSets()).toBe(4);
});

test("a set that was never ready does not block the drain of the healthy ones", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 3 });
  await obey(h1);
  // The fourth set fits nowhere, and it is older than no other set.
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 5 }, undefined);
  await f.placer.placeSets();
  await f.ctx.db.execute(
    sql`update sets set cpu_millis = 64000, plan_after = now() + interval '1 hour' where state = 'pending'`,
  );
  await f.enroll("h2");
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBeGreaterThan(0);
});

test("a set that is not ready leaves a draining host without waiting for a ready replacement", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 3 });
  await obey(h1);
  const [broken] = await sets();
  const { sets: desired } = await f.sync(h1, { full: true });
  await f.sync(h1, {
    observed: desired
      .filter(({ setId }) => setId === broken?.id)
      .map((set) => observed(set, "failed", { ready: false })),
  });
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  // One healthy set is replaced, because maxSurge is 25%. The broken set needs no share of the
  // budget.
  expect(await mover.moveSets()).toBe(2);
  await obey(h1);
  await f.placer.placeSets();
  await mover.moveSets();
  expect((await sets()).find(({ id }) => id === broken?.id)).toMatchObject({
    host: "h2",
    ready: false,
  });
  for (let round = 0; round < 3; round++) {
    // Everything on h2 runs, except the broken set.
    const { sets: onH2 } = await f.sync(h2, { full: true });
    await f.sync(h2, {
      observed: onH2.map((set) =>
        observed(set, set.setId === broken?.id ? "failed" : "running", {
          ready: set.setId !== broken?.id,
        }),
      ),
    });
    await mover.moveSets();
    await obey(h1);
    await f.placer.placeSets();
  }
  expect((await sets()).map(({ host }) => host)).toEqual(["h2", "h2", "h2"]);
});

test("a forced drain ignores the budget and missing capacity once its deadline has passed", async () => {
  const h1 = await f.enroll("h1");
  await run({ replicas: 3 });
  await obey(h1);
  await drainHost(f.ctx, h1, { deadlineSeconds: 600, force: true });
  expect(await mover.moveSets()).toBe(0); // there is no other host
  await f.ctx.db.execute(sql`update drains set deadline_at = now() - interval '1 second'`);
  await f.ctx.db.execute(sql`update operations set due_at = now()`);
  expect(await mover.moveSets()).toBe(3);
  await obey(h1);
  expect(await hosts()).toEqual(["null running", "null running", "null running"]);
  expect((await events("host-draining")).join()).toContain("missed its deadline with 3 sets left");
});

test.each(["applying", "reverting"])(
  "a forced drain past its deadline moves a set whose resize is %s and never ends",
  async (phase) => {
    const h1 = await f.enroll("h1");
    await run();
    await obey(h1);
    await resizeService(
      f.ctx,
      f.tenantId,
      "web",
      { cpu: 2_000, ifNoCapacity: "refuse" },
      undefined,
    );
    await f.ctx.db.execute(sql`update operations set phase = ${phase}`);
    const h2 = await f.enroll("h2");
    await drainHost(f.ctx, h1, { deadlineSeconds: 600, force: true });
    expect(await mover.moveSets()).toBe(0);
    await f.ctx.db.execute(sql`update drains set deadline_at = now() - interval '1 second'`);
    expect(await mover.moveSets()).toBe(1);
    await obey(h1);
    await mover.moveSets();
    await obey(h2);
    expect(await sets()).toMatchObject([{ host: "h2", ready: true }]);
    const booked = await queryRows(
      f.ctx.db,
      sql`select name, allocated_cpu_millis::int as cpu from hosts order by name`,
    );
    expect(booked).toEqual([
      { name: "h1", cpu: 0 },
      { name: "h2", cpu: 2_000 },
    ]);
  },
);

test("a forced drain past its deadline stops sets whose replacements are not ready, in one round", async () => {
  const h1 = await f.enroll("h1");
  await run();
  await obey(h1);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(1);
  await f.placer.placeSets();
  // The replacement never becomes ready. The operator repeats the drain with force.
  await drainHost(f.ctx, h1, { deadlineSeconds: 600, force: true });
  await mover.moveSets();
  expect(await sets()).toHaveLength(2);
  await f.ctx.db.execute(sql`update drains set deadline_at = now() - interval '1 second'`);
  await mover.moveSets();
  const phases = await queryRows(f.ctx.db, sql`select phase from operations`);
  expect(phases).toEqual([{ phase: "leaving" }]);
  await obey(h1);
  await obey(h2);
  await mover.moveSets();
  await f.placer.placeSets();
  await obey(h2);
  expect(await sets()).toMatchObject([{ host: "h2", ready: true }]);
});

test("a forced drain past its deadline does not wait for minReadySeconds of a ready replacement", async () => {
  const h1 = await f.enroll("h1");
  await run();
  await obey(h1);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1, { force: true, deadlineSeconds: 600 });
  await f.ctx.db.execute(
    sql`update services set disruption = jsonb_set(disruption, '{minReadySeconds}', '3600')`,
  );
  expect(await mover.moveSets()).toBe(1);
  await f.placer.placeSets();
  await obey(h2);
  expect(await mover.moveSets()).toBe(0);
  await f.ctx.db.execute(sql`update drains set deadline_at = now() - interval '1 second'`);
  await mover.moveSets();
  await obey(h1);
  expect(await sets()).toMatchObject([{ host: "h2", ready: true }]);
});

test("a replacement that does not become ready is removed, and the replaced set stays", async () => {
  const h1 = await f.enroll("h1");
  await run();
  await obey(h1);
  const h2 = await f.enroll("h2");
  await drainHost(f.ctx, h1);
  expect(await mover.moveSets()).toBe(1);
  await f.placer.placeSets();
  await f.ctx.db.execute(sql`update operations set due_at = now()`);
  expect(await mover.moveSets()).toBe(1);
  await obey(h2);
  expect(await hosts()).toEqual(["h1 running"]);
  const [set] = await sets();
  expect(await getSet(f.ctx, f.tenantId, set?.id ?? "")).toMatchObject({
    reason: { code: "replacement-not-ready" },
  });
});

test("services that fit nowhere do not delay others", async () => {
  const h1 = await f.enroll("h1");
  const { template } = serviceBody("large");
  const large = { template: { ...template, cpuMillis: 2_000 } };
  await createService(f.ctx, f.tenantId, { ...serviceBody("large"), ...large });
  await createService(f.ctx, f.tenantId, serviceBody("small"));
  await f.placer.placeSets();
  await obey(h1);
  await f.enroll("h2", { allocatable: { ...smallHost, cpuMillis: 1_000 } });
  await drainHost(f.ctx, h1);
  const oneByOne = createMover(f.ctx, { servicesPerRoundMax: 1 });
  expect(await oneByOne.moveSets()).toBe(0);
  expect(await oneByOne.moveSets()).toBe(1);
});
