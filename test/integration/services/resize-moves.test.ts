import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { bookings, hostIds, obey, resize, startWeb } from "../../support/fleet/resizing.ts";

const GiB = 2 ** 30;
let fleet: FleetContext | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

async function start(replicas: number): Promise<FleetContext> {
  fleet = await startWeb(replicas);
  return fleet;
}

test("replaces the minimum number of sets, one at a time, each after its replacement is ready", async () => {
  fleet = await createFleetContext();
  const f = fleet;
  const mover = createMover(f.ctx);
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3 }));
  await f.placer.placeSets();
  const h2 = await f.enroll("h2");
  await obey(f, h1);
  await expect(resize(f, { cpu: 2 })).rejects.toThrow(/capacity for the new size on h1 \(2 sets/);
  const { effects, service } = await resize(f, { cpu: 2, ifNoCapacity: "move" });
  expect(effects).toEqual([
    expect.stringContaining("resize 1 set in place to 2 cores"),
    expect.stringContaining("replace 2 sets because the hosts lack capacity"),
  ]);
  expect(service).toMatchObject({ settled: false, revision: 1, counts: { ready: 3 } });
  await obey(f, h1);
  expect(await mover.moveSets()).toBe(1);
  await f.placer.placeSets();
  expect(await mover.moveSets()).toBe(0);
  expect((await getService(f.ctx, f.tenantId, "web")).counts).toMatchObject({
    ready: 3,
    placed: 1,
  });
  await obey(f, h2);
  // The replaced set is removed, and the other one has a replacement as well, until its host has
  // capacity.
  expect(await mover.moveSets()).toBeGreaterThan(0);
  for (let round = 0; round < 4; round++) {
    await f.placer.placeSets();
    await obey(f, h1);
    await obey(f, h2);
    await mover.moveSets();
  }
  expect(await mover.moveSets()).toBe(0);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({
    settled: true,
    counts: { ready: 3 },
  });
  const booked = await bookings(f);
  for (const { cpu, booked: sum } of booked) expect(cpu).toBe(sum);
  expect(booked.reduce((sum, { cpu }) => sum + cpu, 0)).toBe(6_000);
});

test("a set that waits to move for one size moves with the next size; a move by a user stays a move", async () => {
  fleet = await createFleetContext();
  const f = fleet;
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3 }));
  await f.placer.placeSets();
  await f.enroll("h2");
  await obey(f, h1);
  await resize(f, { cpu: 2, ifNoCapacity: "move" });
  await resize(f, { memory: "512Mi", ifNoCapacity: "move" });
  const targets = () =>
    queryRows<{ cpu: number; memory: number; moving: boolean }>(
      f.ctx.db,
      sql`select coalesce(o.cpu_millis, s.cpu_millis)::int as cpu, coalesce(o.memory_bytes, s.memory_bytes)::int as memory,
            o.phase = 'waiting' as moving
          from sets s left join operations o on o.set_id = s.id order by 3`,
    );
  const wanted = { cpu: 2_000, memory: 512 * 2 ** 20 };
  const [inPlace, ...others] = await targets();
  expect(inPlace).toEqual({ ...wanted, moving: false });
  expect(others).toEqual([
    { ...wanted, moving: true },
    { ...wanted, moving: true },
  ]);
  await f.ctx.db.execute(
    sql`update operations set kind = 'move', phase = 'waiting', owner = 'person'`,
  );
  await resize(f, { memory: "256Mi", ifNoCapacity: "move" });
  expect((await targets()).map(({ moving }) => moving)).toEqual([true, true, true]);
});

test("sets with a volume are not moved for their size, and the answer says why", async () => {
  fleet = await createFleetContext();
  const f = fleet;
  for (const name of ["h1", "h2"])
    await f.enroll(name, { allocatable: { ...smallHost, volumeBytes: 10 * GiB } });
  const options = { cpu: 100, memory: 100 };
  const containers = [{ index: 0, name: "app", image: "menu:42", options }];
  const volume = { size: "1Gi", mountPath: "/data" };
  const template = { cpu: 3, memory: "1Gi", volume, containers };
  await createService(f.ctx, f.tenantId, serviceBody("web", { template }));
  await f.placer.placeSets();
  await expect(resize(f, { cpu: 5, ifNoCapacity: "move" })).rejects.toThrow(
    /their data would stay behind, in the trash of that host/,
  );
});

test("a set on a lost host keeps its size, and does not block the resize of the others", async () => {
  const f = await start(4);
  const [h1 = "", h2 = ""] = await hostIds(f);
  for (const hostId of [h1, h2]) await obey(f, hostId);
  await f.ctx.db.execute(
    sql`update hosts set state = 'lost', allocatable_cpu_millis = 2000 where id = ${h1}`,
  );
  await expect(resize(f, { cpu: 2 })).rejects.toThrow("No capacity for the new size on h1");
  const { effects } = await resize(f, { cpu: 2, ifNoCapacity: "move" });
  expect(effects[0]).toContain("resize 2 sets in place to 2 cores");
  expect(effects[1]).toContain("2 sets on lost hosts cannot grow");
  expect(await createMover(f.ctx).moveSets()).toBe(0);
  const left = await queryRows<{ revision: number; code: string; desired: string }>(
    f.ctx.db,
    sql`select s.revision, o.blocked->>'code' as code, s.desired
        from sets s join operations o on o.set_id = s.id where s.host_id = ${h1}`,
  );
  const held = { revision: 1, code: "resize-refused", desired: "running" };
  expect(left).toEqual([held, held]);
});
