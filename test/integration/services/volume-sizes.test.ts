import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obey, resize } from "../../support/fleet/resizing.ts";

const GiB = 2 ** 30;
const startFleet = fleetPerTest();

/** A service body whose template has a volume of these GiB, or none. */
function bodyWith(volumeGib: number | undefined, replicas = 2) {
  const volume =
    volumeGib === undefined ? {} : { volume: { size: `${volumeGib}Gi`, mountPath: "/data" } };
  const template = {
    cpu: 0.5,
    memory: "256Mi",
    rootfs: "1Gi",
    ...volume,
    containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
  };
  return serviceBody("web", { replicas, template });
}

/** Runs two sets of the service "web". */
async function startWeb(volumeGib: number | undefined) {
  const f = await startFleet();
  const hostId = await f.enroll("h1", { allocatable: { ...smallHost, volumeBytes: 100 * GiB } });
  await createService(f.ctx, f.tenantId, bodyWith(volumeGib));
  const runAll = async () => {
    await f.placer.placeSets();
    await obey(f, hostId);
  };
  await runAll();
  return { f, runAll };
}

/** Changes the template of "web" at its current generation. */
async function patchVolume(
  f: FleetContext,
  volumeGib: number | undefined,
  more: { adopt?: "new-sets" } = {},
) {
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const { template } = bodyWith(volumeGib);
  return patchService(f.ctx, f.tenantId, "web", generation, { template, ...more });
}

const adopt = async (f: FleetContext) => {
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  return patchService(f.ctx, f.tenantId, "web", generation, { adopt: "new-sets" });
};

const scale = (f: FleetContext, replicas: number) =>
  scaleService(f.ctx, f.tenantId, "web", { replicas }, undefined);

/** The GiB of volume of each live set by revision, in ascending order. */
function listVolumes(f: FleetContext) {
  return queryRows<{ revision: number; gib: number }>(
    f.ctx.db,
    sql`select revision, (volume_bytes / ${GiB}::bigint)::int as gib from sets where deleted_at is null order by 1, 2`,
  );
}

test("a resize of volumes changes only sets whose revision has a volume", async () => {
  const { f, runAll } = await startWeb(undefined);
  await patchVolume(f, 1, { adopt: "new-sets" });
  await scale(f, 3);
  await runAll();
  const { effects } = await resize(f, { volume: "2Gi" });
  expect(effects[0]).toContain("resize 1 set in place");
  await runAll();
  expect(await listVolumes(f)).toEqual([
    { revision: 1, gib: 0 },
    { revision: 1, gib: 0 },
    { revision: 2, gib: 2 },
  ]);
  await resize(f, { memory: "512Mi", volume: "3Gi" });
  await runAll();
  expect((await listVolumes(f)).map(({ gib }) => gib)).toEqual([0, 0, 3]);
  const [host] = await queryRows<{ gib: number }>(
    f.ctx.db,
    sql`select (allocated_volume_bytes / ${GiB}::bigint)::int as gib from hosts`,
  );
  expect(host).toEqual({ gib: 3 });
});

test("the volume of a target counts against the quota from its adoption on", async () => {
  const { f } = await startWeb(undefined);
  await f.ctx.db.execute(
    sql`update tenants set volume_bytes_max = ${GiB} where id = ${f.tenantId}`,
  );
  const { service } = await patchVolume(f, 1);
  expect(service.template.volume?.sizeBytes).toBe(GiB);
  expect(service.size.volumeBytes).toBe(0);
  await expect(adopt(f)).rejects.toThrow("quota");
  await f.ctx.db.execute(
    sql`update tenants set volume_bytes_max = ${2 * GiB} where id = ${f.tenantId}`,
  );
  expect((await adopt(f)).service.size.volumeBytes).toBe(GiB);
});

test("a target without a volume does not shrink the volumes of new sets", async () => {
  const { f, runAll } = await startWeb(1);
  await resize(f, { volume: "2Gi" });
  await runAll();
  await patchVolume(f, undefined);
  await scale(f, 3);
  expect((await listVolumes(f)).map(({ gib }) => gib)).toEqual([2, 2, 2]);
});

test("a target with another volume size uses it from its adoption on", async () => {
  const { f } = await startWeb(undefined);
  await patchVolume(f, 1);
  const { service } = await patchVolume(f, 5);
  expect(service).toMatchObject({ revision: 1, targetRevision: 2 });
  expect(service.template.volume?.sizeBytes).toBe(5 * GiB);
  await adopt(f);
  await scale(f, 3);
  expect((await listVolumes(f)).map(({ gib }) => gib)).toEqual([0, 0, 5]);
});

test("a resize of volumes applies to a target that waits for its adoption", async () => {
  const { f } = await startWeb(1);
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const { template } = bodyWith(1);
  for (const container of template.containers) container.image = "menu:43";
  await patchService(f.ctx, f.tenantId, "web", generation, { template });
  const { service } = await resize(f, { volume: "2Gi" });
  expect(service.template.volume?.sizeBytes).toBe(2 * GiB);
  await adopt(f);
  await scale(f, 3);
  expect((await listVolumes(f)).map(({ revision, gib }) => [revision, gib])).toContainEqual([2, 2]);
});

test("a target may have smaller volumes than a resize gave the service", async () => {
  const { f, runAll } = await startWeb(1);
  await resize(f, { volume: "3Gi" });
  await runAll();
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const { template } = bodyWith(2);
  for (const container of template.containers) container.image = "menu:43";
  await patchService(f.ctx, f.tenantId, "web", generation, { template });
  expect((await adopt(f)).service.size.volumeBytes).toBe(2 * GiB);
  await scale(f, 3);
  expect((await listVolumes(f)).map(({ gib }) => gib)).toEqual([3, 3, 2]);
});

test("a target gets another volume size after a resize", async () => {
  const { f, runAll } = await startWeb(1);
  const { generation } = await getService(f.ctx, f.tenantId, "web");
  const { template } = bodyWith(1);
  for (const container of template.containers) container.image = "menu:43";
  await patchService(f.ctx, f.tenantId, "web", generation, { template });
  await resize(f, { volume: "3Gi" });
  await runAll();
  const { template: smaller } = bodyWith(2);
  for (const container of smaller.containers) container.image = "menu:43";
  const changed = await getService(f.ctx, f.tenantId, "web");
  await patchService(f.ctx, f.tenantId, "web", changed.generation, { template: smaller });
  expect((await adopt(f)).service.size.volumeBytes).toBe(2 * GiB);
});
