import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { jobPayloads } from "../../../src/contracts/jobs.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import { getHost } from "../../../src/control/hosts/get-host.ts";
import { reconcileService } from "../../../src/control/replicas/reconcile-replicas.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";

const start = fleetPerTest();

interface Booked {
  id: string;
  allocated: number;
  booked: number;
  allocatable: number;
}

/** The bookings of hosts, and the sums over the sets on them. */
async function bookings({ ctx }: FleetContext): Promise<Booked[]> {
  return queryRows<Booked>(
    ctx.db,
    sql`select h.id, h.allocated_cpu_millis::float8 as allocated, h.allocatable_cpu_millis::float8 as allocatable,
          coalesce((select sum(cpu_millis) from sets where host_id = h.id), 0)::float8 as booked
        from hosts h order by h.id`,
  );
}

async function setStates({ ctx }: FleetContext): Promise<Record<string, number>> {
  const rows = await queryRows<{ state: string; count: number }>(
    ctx.db,
    sql`select state, count(*)::int as count from sets where deleted_at is null group by state`,
  );
  return Object.fromEntries(rows.map((row) => [row.state, row.count]));
}

test("pending sets are placed, booked, recorded and sent to the agent of their host", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3 }));
  expect(f.enqueued.map((job) => job.name)).toContain("place-sets");
  expect(await f.placer.placeSets()).toMatchObject({ placed: 3, rejected: 0, conflicts: 0 });
  expect(await bookings(f)).toEqual([
    { id: hostId, allocated: 3_000, booked: 3_000, allocatable: 4_000 },
  ]);
  const answer = await f.sync(hostId);
  expect(answer.sets.map((set) => [set.service, set.tenant, set.desired])).toEqual(
    Array.from({ length: 3 }, () => ["web", "food", "running"]),
  );
  expect(f.signals).toContain(`host:${hostId}`);
  const placements = await queryRows<{ count: number }>(
    f.ctx.db,
    sql`select count(*)::int as count from placements`,
  );
  expect(placements).toEqual([{ count: 3 }]);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, batches: 0 });
});

test("I2: two concurrent job workers, with changes in between, never book a host beyond its allocatable amounts", async () => {
  const f = await start();
  for (let i = 0; i < 4; i++) await f.enroll(`h${i}`);
  const second = createPlacer(f.secondContext());
  await Promise.all(
    Array.from({ length: 8 }, (_, i) =>
      createService(f.ctx, f.tenantId, serviceBody(`web-${i}`, { replicas: 3 })),
    ),
  );
  const [a, b] = await Promise.all([f.placer.placeSets(), second.placeSets()]);
  expect(a.placed + b.placed).toBe(16);
  for (const host of await bookings(f)) {
    expect(host.allocated).toBe(host.booked);
    expect(host.allocated).toBeLessThanOrEqual(host.allocatable);
  }
  expect(await setStates(f)).toEqual({ placed: 16, pending: 8 });
});

test("a scale-in removes pending sets immediately, and placed ones once their agent reports them absent", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 6 }));
  await f.placer.placeSets();
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 1 }, undefined);
  expect(await setStates(f)).toEqual({ placed: 1, stopping: 3 });
  const answer = await f.sync(hostId);
  const doomed = answer.sets.filter((set) => set.desired === "deleted");
  expect(doomed).toHaveLength(3);
  expect((await bookings(f))[0]?.allocated).toBe(4_000);
  await f.sync(hostId, { observed: doomed.map((set) => observed(set, "absent")) });
  expect((await bookings(f))[0]).toMatchObject({ allocated: 1_000, booked: 1_000 });
  expect(await setStates(f)).toEqual({ placed: 1 });
});

test("I4: a report about an older generation, or from a host that the set is not on, changes nothing", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  const otherId = await f.enroll("h2");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const holder = (await f.sync(hostId)).sets.length === 1 ? hostId : otherId;
  const bystander = holder === hostId ? otherId : hostId;
  const [set] = (await f.sync(holder)).sets;
  if (!set) throw new Error("the set is on one of the two hosts");
  await f.sync(bystander, { observed: [observed(set, "failed", { gaveUp: true })] });
  await f.sync(holder, {
    observed: [observed({ ...set, generation: set.generation - 1 }, "failed")],
  });
  expect(await setStates(f)).toEqual({ placed: 1 });
  await f.sync(holder, { observed: [observed(set, "running")] });
  expect(await setStates(f)).toEqual({ running: 1 });
});

test("a container that ran out of memory is one event, with the reason of its agent", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has a set to run");
  const reason = {
    code: "out-of-memory",
    text: '"app" ended with exit code 137 (out of memory, its limit is 1048576 bytes)',
    at: "2026-01-05T12:00:00.000Z",
  };
  const container = {
    name: "app",
    dockerId: null,
    restarts: 0,
    oomKills: 1,
    rootfsUsedBytes: null,
    startedAt: null,
  };
  const exited = { ...container, state: "exited" as const, ready: false, exitCode: 137, reason };
  const report = observed(set, "running", { ready: false, containers: [exited] });
  await f.sync(hostId, { observed: [report] });
  await f.sync(hostId, { observed: [report] });
  const listEvents = () =>
    queryRows(
      f.ctx.db,
      sql`select text, data from events where kind = 'container-out-of-memory' order by id`,
    );
  const eventOf = (text: string) => ({ text, data: { container: "app", reason: text } });
  expect(await listEvents()).toEqual([eventOf(reason.text)]);
  const again = { ...reason, text: "once more", at: "2026-01-05T12:00:05.000Z" };
  const worse = { ...exited, oomKills: 2, reason: again };
  const second = observed(set, "running", { ready: false, containers: [worse] });
  await f.sync(hostId, { observed: [second] });
  expect(await listEvents()).toEqual([eventOf(reason.text), eventOf("once more")]);
});

test("a report about a running set is one event, and the disk usage of its host is shown", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has a set to run");
  await f.sync(hostId, { observed: [observed(set, "running", { ready: true })] });
  const over = { code: "rootfs-exceeded", text: "too much is written", phase: "run" };
  for (const text of ["too much is written", "even more"]) {
    const reason = { ...over, text };
    await f.sync(hostId, { observed: [observed(set, "running", { ready: true, reason })] });
  }
  const warnings = await queryRows(
    f.ctx.db,
    sql`select text from events where kind = 'set-warning'`,
  );
  expect(warnings).toEqual([{ text: over.text }]);
  const amounts = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 };
  const usage = {
    used: amounts,
    allocatable: smallHost,
    reclaimableVolumeBytes: 7,
    trashedVolumeBytes: 0,
    volumeReason: null,
  };
  const disk = { imageBytes: 2 ** 40, containerBytes: 5 };
  await f.sync(hostId, { usage: { ...usage, disk, setMemoryBytes: {} } });
  const { reported } = await getHost(f.ctx, hostId);
  expect(reported).toMatchObject({
    reclaimableVolumeBytes: 7,
    trashedVolumeBytes: 0,
    volumeReason: null,
    ...disk,
  });
  await f.sync(hostId, { usage: { ...usage, disk: null, setMemoryBytes: {} } });
  expect((await getHost(f.ctx, hostId)).reported).toMatchObject({ imageBytes: null });
});

test("a set that fails to start on one host moves to another", async () => {
  const f = await start();
  await f.enroll("h1");
  await f.enroll("h2");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const [placed] = await queryRows<{ hostId: string }>(
    f.ctx.db,
    sql`select host_id as "hostId" from sets`,
  );
  const first = placed?.hostId ?? "";
  const [set] = (await f.sync(first)).sets;
  if (!set) throw new Error("the set is on its host");
  const reason = { code: "start-failed", text: "exec: /bin/menu: not found", phase: "start" };
  await f.sync(first, { observed: [observed(set, "failed", { gaveUp: true, reason })] });
  const [order] = (await f.sync(first, { acceptedGeneration: 1 })).sets;
  expect(order).toMatchObject({ setId: set.setId, desired: "deleted" });
  if (!order) throw new Error("unreachable: just expected");
  await f.sync(first, { observed: [observed(order, "absent")] });
  expect(await setStates(f)).toEqual({ pending: 1 });
  await f.ctx.db.execute(sql`update sets set plan_after = now()`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  const [again] = await queryRows<{ hostId: string }>(
    f.ctx.db,
    sql`select host_id as "hostId" from sets`,
  );
  expect(again?.hostId).not.toBe(first);
});

test("two concurrent reconciliations add the missing sets once", async () => {
  const f = await start();
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 0 }));
  const [service] = await queryRows<{ id: string }>(
    f.ctx.db,
    sql`update services set desired_replicas = 5 returning id`,
  );
  const other = f.secondContext();
  const id = service?.id ?? "";
  await Promise.all([
    reconcileService(f.ctx, id),
    reconcileService(other, id),
    reconcileService(f.ctx, id),
  ]);
  expect(await setStates(f)).toEqual({ pending: 5 });
});

test.each([
  ["created", 10_000],
  ["scaled out", 0],
])(
  "thousands of sets are added a few thousand per transaction, and each enqueues the next (service %s)",
  async (_how, replicas) => {
    const f = await start();
    await createService(f.ctx, f.tenantId, serviceBody("web", { replicas }));
    if (replicas === 0)
      await scaleService(f.ctx, f.tenantId, "web", { replicas: 10_000 }, undefined);
    expect(await setStates(f)).toEqual({ pending: 4_000 });
    for (const [left, pending] of [
      [6_000, 8_000],
      [2_000, 10_000],
    ]) {
      const job = f.enqueued.find(({ jobId }) => jobId.endsWith(`-left${left}`));
      const { serviceId, generation } = jobPayloads["reconcile-service"].parse(job?.payload);
      await reconcileService(f.ctx, serviceId, generation);
      expect(await setStates(f)).toEqual({ pending });
    }
    const names = f.enqueued.map((job) => job.name);
    expect(names).toEqual(
      Array.from({ length: 3 }, (_, i) =>
        i < 2 ? ["place-sets", "reconcile-service"] : ["place-sets"],
      ).flat(),
    );
  },
);

test("Berth replaces a deleted set, but not the sets of a deleted service", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  await f.placer.placeSets();
  const [victim] = (await f.sync(hostId)).sets;
  await deleteSet(f.ctx, f.tenantId, victim?.setId ?? "");
  expect(await setStates(f)).toEqual({ placed: 1, stopping: 1, pending: 1 });
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  expect(await setStates(f)).toEqual({ stopping: 2 });
  const answer = await f.sync(hostId);
  await f.sync(hostId, { observed: answer.sets.map((set) => observed(set, "absent")) });
  const open = await queryRows<{ name: string }>(
    f.ctx.db,
    sql`select name from services where deleted_at is null`,
  );
  expect(open).toEqual([]);
});

test("stop, start and restart reach the agent as new generations; a repeated stop does not", async () => {
  const f = await start();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const [set] = (await f.sync(hostId)).sets;
  if (!set) throw new Error("the set is on its host");
  await controlSet(f.ctx, f.tenantId, set.setId, "stop");
  await controlSet(f.ctx, f.tenantId, set.setId, "stop");
  const [stopped] = (await f.sync(hostId)).sets;
  expect(stopped).toMatchObject({ desired: "stopped", generation: set.generation + 1 });
  await controlSet(f.ctx, f.tenantId, set.setId, "restart");
  const [restarted] = (await f.sync(hostId)).sets;
  expect(restarted).toMatchObject({ desired: "running", restartGeneration: set.generation + 2 });
  if (!restarted) throw new Error("unreachable: just expected");
  await f.sync(hostId, { observed: [observed(restarted, "running")] });
  expect(await getSet(f.ctx, null, set.setId)).toMatchObject({ ready: true });
  // A wait for ready waits for its new containers.
  expect(await controlSet(f.ctx, f.tenantId, set.setId, "restart")).toMatchObject({ ready: false });
  await f.sync(hostId, { observed: [observed(restarted, "running")] });
  expect(await getSet(f.ctx, null, set.setId)).toMatchObject({ ready: false });
});
