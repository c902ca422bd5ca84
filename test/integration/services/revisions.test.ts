import { expect, test } from "vitest";
import { sql } from "drizzle-orm";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { type FleetContext, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obey } from "../../support/fleet/resizing.ts";

const startFleet = fleetPerTest();

/** Two ready sets of revision 1, whose template is then changed to another image. */
async function startChanged(adopt?: "new-sets") {
  const f = await startFleet();
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  await f.placer.placeSets();
  await obey(f, hostId);
  const { template } = serviceBody("web");
  for (const container of template.containers) container.image = "menu:43";
  const change = await patchService(f.ctx, f.tenantId, "web", 1, {
    template,
    ...(adopt === undefined ? {} : { adopt }),
  });
  return { f, hostId, change, template };
}

function setsByRevision(f: FleetContext): Promise<{ revision: number; sets: number }[]> {
  return queryRows(
    f.ctx.db,
    sql`select revision, count(*)::int as sets from sets where deleted_at is null group by 1 order by 1`,
  );
}

const scale = (f: FleetContext, replicas: number) =>
  scaleService(f.ctx, f.tenantId, "web", { replicas }, undefined);

test("a changed template is a target that no scale-out rolls out", async () => {
  const { f, hostId, change } = await startChanged();
  expect(change.service).toMatchObject({
    revision: 1,
    targetRevision: 2,
    updatedSets: 0,
    settled: false,
    template: { containers: [{ image: "menu:43" }] },
  });
  expect(change.effects[0]).toContain("Existing and new sets have revision 1 until a rollout");
  await scale(f, 3);
  await f.placer.placeSets();
  await obey(f, hostId);
  expect(await setsByRevision(f)).toEqual([{ revision: 1, sets: 3 }]);
  const { sets } = await f.sync(hostId, { full: true });
  expect(sets.map((set) => set.template.containers[0]?.image)).toEqual(Array(3).fill("menu:42"));
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({ settled: false });
});

test("new sets have the target revision after a patch adopts it, and `settled` counts all of them", async () => {
  const { f, hostId, change } = await startChanged("new-sets");
  expect(change.service).toMatchObject({ revision: 2, targetRevision: 2, updatedSets: 0 });
  expect(change.effects[0]).toContain("Sets created from now on have revision 2");
  await scale(f, 3);
  await f.placer.placeSets();
  await obey(f, hostId);
  expect(await setsByRevision(f)).toEqual([
    { revision: 1, sets: 2 },
    { revision: 2, sets: 1 },
  ]);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({
    settled: true,
    updatedSets: 1,
  });
});

test("a target is adopted later, or withdrawn by a patch back to the current template", async () => {
  const { f, template } = await startChanged();
  const [container] = template.containers;
  if (!container) throw new Error("the template has a container");
  container.image = "menu:42";
  const back = await patchService(f.ctx, f.tenantId, "web", 2, { template });
  expect(back.service).toMatchObject({ revision: 1, targetRevision: 1 });
  container.image = "menu:44";
  const next = await patchService(f.ctx, f.tenantId, "web", 3, { template });
  expect(next.service).toMatchObject({ revision: 1, targetRevision: 3 });
  const adopted = await patchService(f.ctx, f.tenantId, "web", 4, { adopt: "new-sets" });
  expect(adopted.service).toMatchObject({ revision: 3, targetRevision: 3 });
});

test("a patch of amounts only changes the size of new sets, and no revision", async () => {
  const { f } = await startChanged("new-sets");
  const { template } = serviceBody("web");
  for (const container of template.containers) container.image = "menu:43";
  const patch = { template: { ...template, cpuMillis: 500 } };
  const { service, effects } = await patchService(f.ctx, f.tenantId, "web", 2, patch);
  expect(service).toMatchObject({ revision: 2, targetRevision: 2, size: { cpuMillis: 500 } });
  expect(effects[0]).toContain("have the new size");
  await scale(f, 3);
  const rows = await queryRows<{ cpu: number }>(
    f.ctx.db,
    sql`select cpu_millis::int as cpu from sets order by id`,
  );
  expect(rows.map(({ cpu }) => cpu)).toEqual([1_000, 1_000, 500]);
});

test("a service that changes its template again and again has a bounded number of unused revisions", async () => {
  const { f, template } = await startChanged();
  for (let change = 0; change < 25; change++) {
    await patchService(f.ctx, f.tenantId, "web", 2 + change, {
      template: { ...template, sysctls: { "net.core.somaxconn": String(2_000 + change) } },
    });
  }
  const rows = await queryRows<{ number: number }>(
    f.ctx.db,
    sql`select number from revisions order by number`,
  );
  const newest = 27;
  // The sets have revision 1, the current one.
  expect(rows.map(({ number }) => number)).toEqual([
    1,
    ...Array.from({ length: 20 }, (_, index) => newest - 19 + index),
  ]);
});
