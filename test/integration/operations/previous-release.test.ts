import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

/** Moves and changes of services by processes of the previous release, while this one runs too. */

const start = fleetPerTest();

async function runWeb(f: FleetContext): Promise<string> {
  const h1 = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  return h1;
}

/** The statement by which the previous release removes a set from its host. */
async function leaveAsBefore(f: FleetContext): Promise<void> {
  await f.ctx.db.execute(
    sql`with bumped as (update hosts set generation = generation + 1 where id in (select host_id from sets) returning id, generation)
        update sets s set leaving = true, generation = s.generation + 1, host_generation = b.generation, attempts = s.attempts + 1
        from bumped b where b.id = s.host_id`,
  );
}

const phases = (f: FleetContext) => queryRows(f.ctx.db, sql`select phase from operations`);

test("a set that the previous release removes from its host is placed again", async () => {
  const f = await start();
  const h1 = await runWeb(f);
  const h2 = await f.enroll("h2");
  await leaveAsBefore(f);
  // An agent that syncs with this release first does not receive the removal.
  await obeyOrders(f, h1);
  const mover = createMover(f.ctx);
  await mover.moveSets();
  expect(await phases(f)).toEqual([{ phase: "leaving" }]);
  await obeyOrders(f, h1);
  await f.ctx.db.execute(sql`update sets set plan_after = now()`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  await obeyOrders(f, h2);
  for (let round = 0; round < 2; round++) await mover.moveSets();
  expect(await listLiveSets(f)).toMatchObject([{ host: "h2", ready: true }]);
  expect(await phases(f)).toEqual([]);
});

test("a move that the previous release finishes does not move the set from its next host", async () => {
  const f = await start();
  const h1 = await runWeb(f);
  const h2 = await f.enroll("h2");
  await leaveAsBefore(f);
  await createMover(f.ctx).moveSets();
  expect(await phases(f)).toEqual([{ phase: "leaving" }]);
  // The previous release stores the report that the set is absent, and places the set again.
  await f.ctx.db.execute(
    sql`update sets set leaving = false, host_id = ${h2}, host_generation = 1000, generation = generation + 1 where host_id = ${h1}`,
  );
  const { sets } = await f.sync(h2, { full: true });
  expect(sets.map(({ desired }) => desired)).toEqual(["running"]);
  await createMover(f.ctx).moveSets();
  expect(await phases(f)).toEqual([]);
});

test("a waiting move and a replacement of the previous release get operations", async () => {
  const f = await start();
  await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3 }));
  await f.placer.placeSets();
  const [waiting, replaced, replacement] = await listLiveSets(f);
  await f.ctx.db.execute(
    sql`update sets set move_revision = revision, held_back = '{"code":"move-held","text":"No host fits."}' where id = ${waiting?.id}`,
  );
  await f.ctx.db.execute(
    sql`update sets set replaces = ${replaced?.id} where id = ${replacement?.id}`,
  );
  await createMover(f.ctx).moveSets();
  const rows = await queryRows(
    f.ctx.db,
    sql`select set_id as "setId", kind, phase, replacement_set_id as replacement from operations order by set_id`,
  );
  expect(rows).toEqual([
    { setId: waiting?.id, kind: "move", phase: "waiting", replacement: null },
    { setId: replaced?.id, kind: "move", phase: "replacing", replacement: replacement?.id },
  ]);
  await f.ctx.db.execute(sql`delete from operations where set_id = ${waiting?.id}`);
  await createMover(f.ctx).moveSets();
  const again = sql`select 1 from operations where set_id = ${waiting?.id}`;
  expect(await queryRows(f.ctx.db, again)).toEqual([]); // each is adopted once
});

const GiB = 2 ** 30;

/** A template with a volume of these GiB. */
function templateWith(volumeGib: number, image: string) {
  const { template } = serviceBody("web");
  for (const container of template.containers) container.image = image;
  return { ...template, volume: { sizeBytes: volumeGib * GiB, mountPath: "/data" } };
}

test("an adoption keeps the volume size to which the previous release resized the service", async () => {
  const f = await start();
  const template = templateWith(10, "menu:42");
  await createService(f.ctx, f.tenantId, { ...serviceBody("web"), onHostLost: "wait", template });
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const target = templateWith(20, "menu:43");
  await patchService(f.ctx, f.tenantId, "web", generation, { template: target });
  // A resize of the previous release leaves the revisions unchanged.
  await f.ctx.db.execute(sql`update services set set_volume_bytes = ${30 * GiB}`);
  const { service } = await patchService(f.ctx, f.tenantId, "web", generation + 1, {
    adopt: "new-sets",
  });
  expect(service.size.volumeBytes).toBe(30 * GiB);
});

test("the size of a target counts if the previous release resized the service before", async () => {
  const f = await start();
  const template = templateWith(10, "menu:42");
  await createService(f.ctx, f.tenantId, { ...serviceBody("web"), onHostLost: "wait", template });
  await f.ctx.db.execute(sql`update services set set_volume_bytes = ${30 * GiB}`);
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const target = templateWith(20, "menu:43");
  await patchService(f.ctx, f.tenantId, "web", generation, { template: target });
  const { service } = await patchService(f.ctx, f.tenantId, "web", generation + 1, {
    adopt: "new-sets",
  });
  expect(service.size.volumeBytes).toBe(20 * GiB);
});
