import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import type { CreateService } from "../../../src/contracts/api/services.ts";
import { patchServiceBody } from "../../../src/contracts/api/services.ts";
import type { ReportedVolume } from "../../../src/contracts/api/volumes.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { reconcileService } from "../../../src/control/replicas/reconcile-replicas.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { sumSetsOnDownHosts } from "../../../src/db/queries/tenancy/tenant-usage.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";
import { waitUntil } from "../../support/wait-until.ts";

const gib = 2 ** 30;
let fleet: FleetContext;
afterEach(() => fleet.close());

type QuotaInput = Parameters<typeof tenantBody>[1];

async function start(quota: QuotaInput): Promise<{ tenantId: string; hostId: string }> {
  fleet = await createFleetContext();
  const hostId = await fleet.enroll("h1", {
    allocatable: { ...smallHost, cpuMillis: 64_000, memoryBytes: 64 * gib, volumeBytes: 64 * gib },
  });
  const tenant = await createTenant(fleet.ctx, tenantBody("small", quota));
  return { tenantId: tenant.id, hostId };
}

function templateOf(cpu: number, more: object = {}) {
  return {
    cpu,
    memory: "64Mi",
    rootfs: "1Gi",
    containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
    ...more,
  };
}

function sized(name: string, cpu: number, replicas: number, more: object = {}): CreateService {
  return serviceBody(name, { replicas, template: templateOf(cpu, more) });
}

const withVolume = (name: string, replicas: number) =>
  sized(name, 0.1, replicas, { volume: { size: "1Gi", mountPath: "/data" } });

/** The host's agent runs the sets that it is ordered to run. */
async function runSets(hostId: string): Promise<void> {
  const { sets } = await fleet.sync(hostId, { full: true });
  await fleet.sync(hostId, {
    observed: sets
      .filter(({ desired }) => desired === "running")
      .map((set) => observed(set, "running")),
  });
}

/** The host's agent reports that the sets that it is ordered to delete are absent. */
async function removeSets(hostId: string, volumes: ReportedVolume[] | null = null): Promise<void> {
  const { sets } = await fleet.sync(hostId, { full: true });
  await fleet.sync(hostId, {
    volumes,
    observed: sets
      .filter(({ desired }) => desired === "deleted")
      .map((set) => observed(set, "absent")),
  });
  await closeServices(fleet.ctx);
}

const exceeded = { code: "quota-exceeded" };
const create = (tenantId: string, body: CreateService) => createService(fleet.ctx, tenantId, body);

test("a smaller template frees no quota while sets of the larger one run", async () => {
  const { tenantId, hostId } = await start({ cpuMillisMax: 10_000 });
  await create(tenantId, sized("large", 4, 2));
  await fleet.placer.placeSets();
  await runSets(hostId);
  const patch = patchServiceBody.parse({ template: templateOf(0.01) });
  await patchService(fleet.ctx, tenantId, "large", 1, patch);
  await expect(create(tenantId, sized("next", 4, 2))).rejects.toMatchObject(exceeded);
  await create(tenantId, sized("next", 1, 2));
});

test("a smaller template frees no quota while sets of the larger one are pending", async () => {
  const { tenantId } = await start({ cpuMillisMax: 10_000 });
  await create(tenantId, sized("large", 4, 2));
  const patch = patchServiceBody.parse({ template: templateOf(0.01) });
  await patchService(fleet.ctx, tenantId, "large", 1, patch);
  await expect(create(tenantId, sized("next", 4, 2))).rejects.toMatchObject(exceeded);
});

test("a deleted service counts against the quota until its host reports its sets absent", async () => {
  const { tenantId, hostId } = await start({ setsMax: 2 });
  await create(tenantId, sized("slow", 1, 2));
  await fleet.placer.placeSets();
  await runSets(hostId);
  await deleteService(fleet.ctx, tenantId, "slow", undefined);
  await expect(create(tenantId, sized("next", 1, 1))).rejects.toMatchObject(exceeded);
  await removeSets(hostId);
  await create(tenantId, sized("next", 1, 2));
});

test("sets that are scaled in count against the quota until their host reports them absent", async () => {
  const { tenantId, hostId } = await start({ setsMax: 4 });
  await create(tenantId, sized("slow", 1, 4));
  await fleet.placer.placeSets();
  await runSets(hostId);
  await scaleService(fleet.ctx, tenantId, "slow", { replicas: 0 }, undefined);
  const scale = (replicas: number) =>
    scaleService(fleet.ctx, tenantId, "slow", { replicas }, undefined);
  await expect(scale(1)).rejects.toMatchObject(exceeded);
  await removeSets(hostId);
  await scale(4);
});

test("sets that are being removed do not prevent a larger template", async () => {
  const { tenantId, hostId } = await start({ cpuMillisMax: 10_000 });
  await create(tenantId, sized("slow", 8, 1));
  await create(tenantId, sized("web", 1, 1));
  await fleet.placer.placeSets();
  await runSets(hostId);
  await deleteService(fleet.ctx, tenantId, "slow", undefined);
  const patch = (cpu: number) => patchServiceBody.parse({ template: templateOf(cpu) });
  const { service } = await patchService(fleet.ctx, tenantId, "web", 1, patch(9));
  await expect(
    patchService(fleet.ctx, tenantId, "web", service.generation, patch(11)),
  ).rejects.toMatchObject(exceeded);
});

test("volumes and root file systems count against the quota", async () => {
  const { tenantId } = await start({ volumeBytesMax: 2 * gib, rootfsBytesMax: 3 * gib });
  await expect(create(tenantId, withVolume("db", 3))).rejects.toMatchObject({
    ...exceeded,
    publicDetail: expect.stringContaining("of volumes"),
  });
  await create(tenantId, withVolume("db", 2));
  await expect(create(tenantId, sized("web", 1, 2))).rejects.toMatchObject({
    ...exceeded,
    publicDetail: expect.stringContaining("of root file systems"),
  });
});

function trashed(setId: string): ReportedVolume {
  return {
    volumeId: setId.replace("set_", "vol_"),
    setId,
    tenant: "small",
    service: "db",
    state: "trashed",
    sizeBytes: gib,
    usedBytes: null,
    trashedAt: "2026-01-01T00:00:00.000Z",
    expiresAt: "2999-01-08T00:00:00.000Z",
    reason: null,
  };
}

test("deleting sets in a loop creates no more sets than the quota while the deleted ones exist", async () => {
  const { tenantId, hostId } = await start({ setsMax: 3 });
  const { service } = await create(tenantId, sized("web", 1, 2));
  await fleet.placer.placeSets();
  await runSets(hostId);
  const listLive = () =>
    queryRows<{ id: string; desired: string }>(
      fleet.ctx.db,
      sql`select id, desired from sets where tenant_id = ${tenantId} and deleted_at is null order by desired desc, id`,
    );
  for (let round = 0; round < 6; round++) {
    const running = (await listLive()).find(({ desired }) => desired === "running");
    if (running) await deleteSet(fleet.ctx, tenantId, running.id);
    await fleet.placer.placeSets();
    await reconcileService(fleet.ctx, service.id); // the audit of replicas does the same
  }
  expect(await listLive()).toHaveLength(3);
  const warnings = await queryRows<{ text: string }>(
    fleet.ctx.db,
    sql`select text from events where kind = 'set-warning' limit 1`,
  );
  expect(warnings[0]?.text).toContain("quota");

  await removeSets(hostId);
  await reconcileService(fleet.ctx, service.id);
  const after = await listLive();
  expect(after.map(({ desired }) => desired)).toEqual(["running", "running"]);
});

test("the sets of a lost host are replaced although they exist until the host returns", async () => {
  const { tenantId, hostId } = await start({ setsMax: 2 });
  await create(tenantId, sized("web", 1, 2));
  await fleet.placer.placeSets();
  await runSets(hostId);
  const other = await fleet.enroll("h2");
  await fleet.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 hour', lost_at = now() - interval '1 hour', state = 'lost' where id = ${hostId}`,
  );
  const replaced = await waitUntil("the sets are replaced", async () => {
    await replaceSetsOfLostHosts(fleet.ctx);
    await fleet.placer.placeSets();
    const { sets } = await fleet.sync(other, { full: true });
    return sets.length > 0 && sets;
  });
  expect(replaced).toHaveLength(2);
});

test("the replacement of a tenant's sets reads no sets of other tenants on the same lost hosts", async () => {
  const { tenantId, hostId } = await start({ setsMax: 2 });
  const { service } = await create(tenantId, sized("web", 1, 1));
  const { service: others } = await createService(fleet.ctx, fleet.tenantId, sized("others", 1, 1));
  const insertRemoved = (owner: string, serviceId: string, count: number) =>
    fleet.ctx.db.execute(sql`
      insert into sets (id, tenant_id, service_id, revision, priority, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes,
        host_id, state, desired)
      select ${serviceId} || '-' || n, ${owner}, ${serviceId}, 1, 0, 1000, 1, 0, 0, ${hostId}, 'lost', 'deleted'
      from generate_series(1, ${count}::int) n`);
  await insertRemoved(fleet.tenantId, others.id, 3_000);
  await insertRemoved(tenantId, service.id, 3);
  await fleet.ctx.db.execute(sql`update hosts set state = 'lost' where id = ${hostId}`);
  await fleet.ctx.db.execute(sql`analyze sets`);
  await withTx(fleet.ctx.db, async (tx) => {
    const before = await rowsReadOf(tx, "sets");
    expect(await sumSetsOnDownHosts(tx, tenantId)).toMatchObject({ sets: 3, cpuMillis: 3_000 });
    expect((await rowsReadOf(tx, "sets")) - before).toBeLessThan(100);
  });
});

test("a tenant whose trash is larger than its quota gets no new volumes until it purges some", async () => {
  const { tenantId, hostId } = await start({ trashBytesMax: 3 * gib });
  const volumes: ReportedVolume[] = [];
  for (let round = 0; round < 2; round++) {
    await create(tenantId, withVolume("db", 2));
    await fleet.placer.placeSets();
    await runSets(hostId);
    const { sets } = await fleet.sync(hostId, { full: true });
    volumes.push(...sets.map(({ setId }) => trashed(setId)));
    await deleteService(fleet.ctx, tenantId, "db", undefined);
    await removeSets(hostId, volumes);
  }
  await expect(create(tenantId, withVolume("db", 1))).rejects.toMatchObject({
    ...exceeded,
    publicDetail: expect.stringMatching(/trash.*berth volume purge/),
  });
  await create(tenantId, sized("web", 1, 1));
  await fleet.sync(hostId, { volumes: volumes.slice(1) });
  await create(tenantId, withVolume("db", 1));
});
