import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import type { ReportedVolume } from "../../src/contracts/volumes.ts";
import { rowsOf } from "../../src/db/queries/rows.ts";
import { assert } from "../../src/lib/assert.ts";
import { newId } from "../../src/lib/ids.ts";
import { cordonHost } from "../../src/services/admit-host.ts";
import { deleteHost } from "../../src/services/delete-host.ts";
import { deleteService } from "../../src/services/delete-service.ts";
import { createService } from "../../src/services/create-service.ts";
import { getService } from "../../src/services/get-service.ts";
import { listVolumes, purgeVolume, restoreVolume } from "../../src/services/volumes.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../support/fleet-context.ts";

const GiB = 2 ** 30;
let fleet: FleetContext | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

/** A host with room for two volumes of a GiB, and a service `db` with one set that has one. */
async function start(): Promise<{ f: FleetContext; hostId: string }> {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1", { allocatable: { ...smallHost, volumeBytes: 2 * GiB } });
  await createDb(f, 1);
  return { f, hostId };
}

async function createDb(f: FleetContext, replicas: number, name = "db"): Promise<void> {
  const { template, ...body } = serviceBody(name, { replicas });
  const volume = { sizeBytes: GiB, mountPath: "/data" };
  await createService(f.ctx, f.tenantId, { ...body, template: { ...template, volume } });
  await f.placer.placeSets();
}

function volumeOf(setId: string, changes: Partial<ReportedVolume> = {}): ReportedVolume {
  return {
    volumeId: setId.replace("set_", "vol_"),
    setId,
    tenant: "food",
    service: "db",
    state: "live",
    sizeBytes: GiB,
    usedBytes: 4_096,
    trashedAt: null,
    expiresAt: null,
    ...changes,
  };
}

const trashed = {
  state: "trashed",
  usedBytes: null,
  trashedAt: "2026-01-01T00:00:00.000Z",
  expiresAt: "2026-01-08T00:00:00.000Z",
} as const;

/** The one set of the service runs, its service is deleted, and its volume is in the trash. */
async function trashTheVolume(f: FleetContext, hostId: string): Promise<ReportedVolume> {
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has a set to run");
  const report = {
    usage: {
      used: smallHost,
      allocatable: smallHost,
      reclaimableVolumeBytes: 0,
      disk: null,
      setMemoryBytes: {},
    },
  };
  const used = { ...smallHost, cpuMillis: 0, memoryBytes: 0, rootfsBytes: 0, volumeBytes: GiB };
  const allocatable = { ...smallHost, volumeBytes: 2 * GiB };
  const usage = { ...report.usage, used, allocatable };
  const live = volumeOf(set.setId);
  await f.sync(hostId, { observed: [observed(set, "running")], volumes: [live], usage });
  await deleteService(f.ctx, f.tenantId, "db", undefined);
  const [last] = (await f.sync(hostId, { full: true })).sets;
  assert(last?.desired === "deleted", "the set is to go");
  const trash = volumeOf(set.setId, trashed);
  await f.sync(hostId, { observed: [observed(last, "absent")], volumes: [trash], usage });
  return trash;
}

async function eventKinds(f: FleetContext): Promise<string[]> {
  const rows = await rowsOf<{ kind: string }>(
    f.ctx.db,
    sql`select kind from events where kind like 'volume-%' order by id`,
  );
  return rows.map(({ kind }) => kind);
}

test("a set with a volume goes where there is room for it, and its agent is told", async () => {
  const { f, hostId } = await start();
  await createDb(f, 2, "db-2");
  expect((await f.sync(hostId, { full: true })).sets).toHaveLength(2);
  const [row] = await rowsOf(
    f.ctx.db,
    sql`select allocated_volume_bytes::float8 as booked,
          (select count(*)::int from sets where state = 'pending') as pending from hosts`,
  );
  expect(row).toEqual({ booked: 2 * GiB, pending: 1 });
});

test("what hosts say of volumes is listed, and what becomes of them is told", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const { items } = await listVolumes(f.ctx, null, { limit: 10, state: "trashed" });
  expect(items).toMatchObject([{ id: trash.volumeId, ...trashed, purging: false, service: "db" }]);
  expect(await listVolumes(f.ctx, newId("ten"), { limit: 10 })).toMatchObject({ items: [] });
  await f.sync(hostId, { volumes: [] });
  expect(await eventKinds(f)).toEqual(["volume-trashed", "volume-purged"]);
});

test("a restored volume comes back in one more set of its service, on its host", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  const restore = () => restoreVolume(f.ctx, null, volumeId);
  await expect(restore()).rejects.toThrow("Create it again");
  await createDb(f, 0);
  const set = await restore();
  expect(set).toMatchObject({ service: "db", state: "placed", host: { id: hostId } });
  const [wanted] = (await f.sync(hostId, { full: true })).sets;
  expect(wanted).toMatchObject({ setId: set.id, restoreVolumeId: volumeId, desired: "running" });
  expect(await getService(f.ctx, f.tenantId, "db")).toMatchObject({ replicas: 1 });
  await expect(restore()).rejects.toThrow("is being purged or restored");
  await expect(purgeVolume(f.ctx, null, volumeId, { confirm: volumeId })).rejects.toThrow(
    "is being purged or restored",
  );
  await f.sync(hostId, { volumes: [volumeOf(set.id, { volumeId })] });
  expect(await eventKinds(f)).toEqual(["volume-trashed", "volume-restored"]);
  await expect(restore()).rejects.toThrow("is in use by set");
});

test("I2: a volume is restored only where its set fits", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  await createDb(f, 0);
  await createService(f.ctx, f.tenantId, serviceBody("greedy", { replicas: 4 }));
  await f.placer.placeSets();
  await expect(restoreVolume(f.ctx, null, volumeId)).rejects.toThrow("insufficient-cpu");
  expect(await getService(f.ctx, f.tenantId, "db")).toMatchObject({ replicas: 0 });
});

test("I7: a purge needs the id twice, reaches the host until the volume is gone, and only from the trash", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  await expect(purgeVolume(f.ctx, null, volumeId, { confirm: newId("vol") })).rejects.toThrow(
    "cannot be undone",
  );
  const before = (await f.sync(hostId, { full: true })).hostGeneration;
  const volume = await purgeVolume(f.ctx, null, volumeId, { confirm: volumeId });
  expect(volume).toMatchObject({ id: volumeId, purging: true });
  const asked = await f.sync(hostId, { acceptedGeneration: before });
  expect(asked.purgeVolumes).toEqual([volumeId]);
  expect((await f.sync(hostId, { full: true })).purgeVolumes).toEqual([volumeId]);
  await expect(restoreVolume(f.ctx, null, volumeId)).rejects.toThrow("Create it again");
  await createDb(f, 0);
  await expect(restoreVolume(f.ctx, null, volumeId)).rejects.toThrow("being purged");
  await f.sync(hostId, { volumes: [] });
  expect((await f.sync(hostId, { full: true })).purgeVolumes).toEqual([]);
  expect(await eventKinds(f)).toEqual(["volume-trashed", "volume-purging", "volume-purged"]);
});

test("a host with volumes is deleted only when it is lost, and they are told to be lost with it", async () => {
  const { f, hostId } = await start();
  await trashTheVolume(f, hostId);
  await cordonHost(f.ctx, hostId);
  await expect(deleteHost(f.ctx, hostId, {})).rejects.toThrow("restore or purge its volumes first");
  await f.ctx.db.execute(sql`update hosts set state = 'lost' where id = ${hostId}`);
  await expect(deleteHost(f.ctx, hostId, {})).rejects.toThrow("1 volume");
  await deleteHost(f.ctx, hostId, { confirm: hostId });
  expect(await listVolumes(f.ctx, null, { limit: 10 })).toMatchObject({ items: [] });
  expect(await eventKinds(f)).toEqual(["volume-trashed", "volume-lost"]);
});

test("I9, I4: one host cannot speak of another's volumes", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const other = await f.enroll("h2");
  await f.sync(other, { volumes: [{ ...trash, sizeBytes: 1 }] });
  await f.sync(other, { volumes: [] });
  const { items } = await listVolumes(f.ctx, null, { limit: 10 });
  expect(items).toMatchObject([{ id: trash.volumeId, host: { id: hostId }, sizeBytes: GiB }]);
});
