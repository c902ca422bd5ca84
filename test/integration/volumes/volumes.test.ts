import { sql } from "drizzle-orm";
import { afterEach, expect, test, vi } from "vitest";
import { syncBody } from "../../../src/contracts/agent-protocol/sync.ts";
import type { ReportedVolume } from "../../../src/contracts/api/volumes.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { newId } from "../../../src/lib/ids.ts";
import { cordonHost } from "../../../src/control/hosts/cordon-host.ts";
import { uncordonHost } from "../../../src/control/hosts/uncordon-host.ts";
import { deleteHost } from "../../../src/control/hosts/delete-host.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getHost } from "../../../src/control/hosts/get-host.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { getSet } from "../../../src/control/sets/get-set.ts";
import { moveSet } from "../../../src/control/sets/move-set.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { listVolumes } from "../../../src/control/volumes/list-volumes.ts";
import { reconcileService } from "../../../src/control/replicas/reconcile-replicas.ts";
import { purgeVolume } from "../../../src/control/volumes/purge-volume.ts";
import { restoreVolume } from "../../../src/control/volumes/restore-volume.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import { createDb, trashed, trashTheVolume, volumeOf } from "../../support/fleet/trashed-volume.ts";
import { expectCatalogTexts } from "../../support/fleet/expect-catalog-texts.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
  syncAs,
} from "../../support/fleet/fleet-context.ts";

const GiB = 2 ** 30;
let fleet: FleetContext | undefined;

afterEach(async () => {
  if (fleet) await expectCatalogTexts(fleet.ctx.db);
  await fleet?.close();
  fleet = undefined;
});

/** A host with capacity for two volumes of a GiB, and a service `db` with one set that has one. */
async function start(): Promise<{ f: FleetContext; hostId: string }> {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1", { allocatable: { ...smallHost, volumeBytes: 2 * GiB } });
  await createDb(f, 1);
  return { f, hostId };
}

/** The volume size of new sets. */
async function resizeTemplate(f: FleetContext, sizeBytes: number): Promise<void> {
  await f.ctx.db.execute(sql`
    update services set set_volume_bytes = ${sizeBytes} where deleted_at is null and name = 'db'`);
}

async function eventKinds(f: FleetContext): Promise<string[]> {
  const rows = await queryRows<{ kind: string }>(
    f.ctx.db,
    sql`select kind from events where kind like 'volume-%' order by id`,
  );
  return rows.map(({ kind }) => kind);
}

test("a set with a volume is placed where its volume fits, and its agent gets the volume", async () => {
  const { f, hostId } = await start();
  await createDb(f, 2, "db-2");
  expect((await f.sync(hostId, { full: true })).sets).toHaveLength(2);
  const [row] = await queryRows(
    f.ctx.db,
    sql`select allocated_volume_bytes::float8 as booked,
          (select count(*)::int from sets where state = 'pending') as pending from hosts`,
  );
  expect(row).toEqual({ booked: 2 * GiB, pending: 1 });
});

test("the API lists the volumes that hosts report, and events show their changes", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const { items } = await listVolumes(f.ctx, null, { limit: 10, state: "trashed" });
  expect(items).toMatchObject([{ id: trash.volumeId, ...trashed, purging: false, service: "db" }]);
  expect(await listVolumes(f.ctx, newId("ten"), { limit: 10 })).toMatchObject({ items: [] });
  await f.sync(hostId, { volumes: [] });
  expect(await eventKinds(f)).toEqual(["volume-trashed", "volume-purged"]);
});

test("I16: a trashed volume without an expiry can be restored, and its event names the expiry that follows", async () => {
  const { f, hostId } = await start();
  const unstarted = { trashedAt: null, expiresAt: null };
  const { volumeId, setId } = await trashTheVolume(f, hostId, unstarted);
  expect(await eventKinds(f)).toEqual([]);
  await createDb(f, 0);
  const answer = await f.sync(hostId, { volumes: [volumeOf(setId, { volumeId, ...trashed })] });
  const [now] = await queryRows<{ ageMs: number }>(
    f.ctx.db,
    sql`select (extract(epoch from now() - ${answer.databaseTime ?? null}::timestamptz) * 1000)::float8 as "ageMs"`,
  );
  expect(now?.ageMs).toBeGreaterThanOrEqual(-1);
  expect(now?.ageMs).toBeLessThan(60_000);
  expect(await eventKinds(f)).toEqual(["volume-trashed"]);
  await f.sync(hostId, { volumes: [volumeOf(setId, { volumeId, ...trashed, ...unstarted })] });
  await restoreVolume(f.ctx, null, volumeId);
});

test("a restored volume comes back in one more set of its service, on its host", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  const restore = () => restoreVolume(f.ctx, null, volumeId);
  await expect(restore()).rejects.toThrow("Create it again");
  await createDb(f, 0);
  await f.ctx.db.execute(sql`update services set desired_replicas = 2 where name = 'db'`);
  await expect(restore()).rejects.toThrow("Scale it to 2 first");
  await f.ctx.db.execute(sql`update services set desired_replicas = 0 where name = 'db'`);
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

test("a restore continues a scale-in, which does not remove the restored set", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  await createDb(f, 1);
  await obeyOrders(f, hostId);
  // As if rounds of a scale-in were left.
  await f.ctx.db.execute(
    sql`update services set replicas = 0, desired_replicas = 0, generation = generation + 1 where name = 'db' and deleted_at is null`,
  );
  f.enqueued.length = 0;
  const restored = await restoreVolume(f.ctx, null, volumeId);
  const job = f.enqueued.find(({ name }) => name === "reconcile-service");
  assert(job, "the restore enqueues the next round");
  await reconcileService(
    f.ctx,
    String(job.payload["serviceId"]),
    Number(job.payload["generation"]),
  );
  const left = (await listLiveSets(f)).filter(({ desired }) => desired !== "deleted");
  expect(left).toMatchObject([{ id: restored.id }]);
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

test("I2: a restored set books the overhead of its containers, and is refused without it", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  await createDb(f, 0);
  const resizeHost = (bytes: number) =>
    f.ctx.db.execute(sql`update hosts set allocatable_memory_bytes = ${bytes}`);
  const booked = GiB + 16 * 2 ** 20;
  await resizeHost(booked - 1);
  await expect(restoreVolume(f.ctx, null, volumeId)).rejects.toThrow("insufficient-memory");
  await resizeHost(booked);
  await restoreVolume(f.ctx, null, volumeId);
  expect((await getHost(f.ctx, hostId)).allocated.memoryBytes).toBe(booked);
});

test("a volume is not restored into a service whose grant was withdrawn", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  await createDb(f, 0);
  await f.ctx.db.execute(sql`update tenants set grants = jsonb_set(grants, '{pools}', '["gpu"]')`);
  const restore = restoreVolume(f.ctx, null, volumeId);
  await expect(restore).rejects.toMatchObject({ code: "grant-missing" });
  expect(await getService(f.ctx, f.tenantId, "db")).toMatchObject({ replicas: 0 });
});

test("a set that has a volume is not moved off its host because it does not start there", async () => {
  const { f, hostId } = await start();
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has a set to run");
  await f.sync(hostId, { volumes: [volumeOf(set.setId)] });
  const failed = {
    ...observed(set, "failed"),
    ready: false,
    gaveUp: true,
    reason: { code: "not-healthy", text: "its database recovers slowly" },
  };
  await f.sync(hostId, { observed: [failed] });
  const [still] = (await f.sync(hostId, { full: true })).sets;
  expect(still).toMatchObject({ setId: set.setId, desired: "running", generation: set.generation });
  const shown = await getSet(f.ctx, null, set.setId);
  expect(shown).toMatchObject({
    state: "failed",
    reason: { text: "its database recovers slowly" },
  });
  // A set whose volume was never created has nothing to lose.
  await f.sync(hostId, { volumes: [] });
  await f.sync(hostId, { observed: [failed] });
  expect((await f.sync(hostId, { full: true })).sets).toMatchObject([{ desired: "deleted" }]);
});

test("I13: a set that has run keeps its host although the host has not reported the volume", async () => {
  const { f, hostId } = await start();
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has a set to run");
  await f.sync(hostId, { observed: [observed(set, "running")], volumes: [] });
  const failed = { ...observed(set, "failed"), ready: false, gaveUp: true };
  await f.sync(hostId, { observed: [failed] });
  expect((await f.sync(hostId, { full: true })).sets).toMatchObject([{ desired: "running" }]);
});

test("a restored set keeps its volume and its host; a move goes to an empty volume", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const { volumeId } = trash;
  await createDb(f, 0);
  const { id: setId } = await restoreVolume(f.ctx, null, volumeId);
  const wanted = async (host: string) => (await f.sync(host, { full: true })).sets[0];
  const set = await wanted(hostId);
  assert(set, "the host has the set to run");
  const failed = { ...observed(set, "failed"), ready: false, gaveUp: true };
  await f.sync(hostId, { observed: [failed] });
  expect(await wanted(hostId)).toMatchObject({ desired: "running", restoreVolumeId: volumeId });

  const mover = createMover(f.ctx);
  await expect(moveSet(f.ctx, null, setId)).rejects.toThrow("would start with an empty one");
  expect(await wanted(hostId)).toMatchObject({ desired: "running", restoreVolumeId: volumeId });
  const other = await f.enroll("h2", { allocatable: { ...smallHost, volumeBytes: 2 * GiB } });
  await moveSet(f.ctx, null, setId, { discardVolume: true });
  expect(await mover.moveSets()).toBe(1);
  const leaving = await wanted(hostId);
  assert(leaving?.desired === "deleted", "the set is to go");
  await cordonHost(f.ctx, other); // as if its host had no capacity by now
  await f.sync(hostId, { observed: [observed(leaving, "absent")] });
  const placeAgain = async (): Promise<void> => {
    for (let round = 0; round < 2; round++) {
      await f.ctx.db.execute(sql`update sets set plan_after = now() where id = ${setId}`);
      await f.placer.placeSets(); // in the first round the set avoids its previous host
    }
  };
  await placeAgain();
  expect(await wanted(hostId)).toMatchObject({ setId, restoreVolumeId: volumeId });
  await uncordonHost(f.ctx, other);
  await moveSet(f.ctx, null, setId, { discardVolume: true });
  expect(await mover.moveSets()).toBe(1);
  const again = await wanted(hostId);
  assert(again?.desired === "deleted", "the set is to go");
  await f.sync(hostId, { observed: [observed(again, "absent")] });
  await placeAgain();
  expect(await wanted(other)).toMatchObject({ setId, restoreVolumeId: null });
});

test("I7: a volume whose retention has ended cannot be restored", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  await createDb(f, 0);
  await f.sync(hostId, { volumes: [{ ...trash, expiresAt: "2026-01-08T00:00:00.000Z" }] });
  await f.ctx.db.execute(sql`update volumes set expires_at = now() - interval '1 second'`);
  await expect(restoreVolume(f.ctx, null, trash.volumeId)).rejects.toThrow("retention is over");
});

test("I2: a reclaimable volume counts once for the set that restores it", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  await createDb(f, 0);
  // It and a GiB of another owner take all capacity. It is all of the trash.
  const usage = {
    used: { cpuMillis: 0, memoryBytes: 0, rootfsBytes: 0, volumeBytes: 2 * GiB },
    allocatable: { ...smallHost, volumeBytes: 2 * GiB },
    reclaimableVolumeBytes: GiB,
    trashedVolumeBytes: GiB,
    volumeReason: null,
    disk: null,
    setMemoryBytes: {},
  };
  await f.sync(hostId, { usage });
  await resizeTemplate(f, 2 * GiB);
  await expect(restoreVolume(f.ctx, null, volumeId)).rejects.toThrow("has no capacity for the set");
  await resizeTemplate(f, GiB);
  expect(await restoreVolume(f.ctx, null, volumeId)).toMatchObject({ state: "placed" });
});

test("I2: a volume that is larger than its set's template is booked with its actual size", async () => {
  const { f, hostId } = await start();
  const { volumeId } = await trashTheVolume(f, hostId);
  await createDb(f, 0);
  await resizeTemplate(f, GiB / 2);
  await restoreVolume(f.ctx, null, volumeId);
  const [row] = await queryRows(
    f.ctx.db,
    sql`select allocated_volume_bytes::float8 as booked from hosts where id = ${hostId}`,
  );
  expect(row).toEqual({ booked: GiB });
});

test("one event says why a volume is not purged, and a host says why it has no capacity for volumes", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const reason = { code: "volume-busy", text: "it is in use and stays mounted" };
  for (let look = 0; look < 2; look++)
    await f.sync(hostId, { volumes: [{ ...trash, sizeBytes: GiB + look, reason }] });
  const { items } = await listVolumes(f.ctx, null, { limit: 10 });
  expect(items).toMatchObject([{ id: trash.volumeId, reason }]);
  expect(await eventKinds(f)).toEqual(["volume-trashed", "volume-not-purged"]);
  const none = { cpuMillis: 0, memoryBytes: 0, rootfsBytes: 0, volumeBytes: 0 };
  const volumeReason = { code: "volume-missing", text: "there is no volume group berth" };
  const unmeasured = { used: none, allocatable: { ...smallHost, volumeBytes: 0 } };
  const empty = {
    reclaimableVolumeBytes: 0,
    trashedVolumeBytes: 0,
    disk: null,
    setMemoryBytes: {},
  };
  await f.sync(hostId, { usage: { ...unmeasured, ...empty, volumeReason } });
  expect(await getHost(f.ctx, hostId)).toMatchObject({
    state: "ready",
    reported: { reason: volumeReason, volumeReason },
  });
});

test("I7: a purge needs the id twice and a trashed volume, and its host gets it until the volume is deleted", async () => {
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

test("a host with volumes is deleted only when it is lost, and events report its volumes as lost", async () => {
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

test("I9, I4: a host cannot report volumes of another host", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const other = await f.enroll("h2");
  await f.sync(other, { volumes: [{ ...trash, sizeBytes: 1 }] });
  await f.sync(other, { volumes: [] });
  const { items } = await listVolumes(f.ctx, null, { limit: 10 });
  expect(items).toMatchObject([{ id: trash.volumeId, host: { id: hostId }, sizeBytes: GiB }]);
});

test("a repeated report writes and locks only the volumes that changed", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const other = { ...trash, volumeId: newId("vol") };
  const readVersions = async () => {
    const rows = await queryRows<{ id: string; version: string }>(
      f.ctx.db,
      // A lock on a row changes its xmax.
      sql`select id, concat(xmin, ' ', xmax) as version from volumes`,
    );
    return new Map(rows.map(({ id, version }) => [id, version]));
  };
  await f.sync(hostId, { volumes: [trash, other] });
  const before = await readVersions();
  await f.sync(hostId, { volumes: [trash, other] });
  expect(await readVersions()).toEqual(before);

  const reason = { code: "purge-failed", text: "The disk is read-only." };
  await f.sync(hostId, { volumes: [trash, { ...other, reason }] });
  const after = await readVersions();
  expect(after.get(trash.volumeId)).toBe(before.get(trash.volumeId));
  expect(after.get(other.volumeId)).not.toBe(before.get(other.volumeId));
  // A restored volume is no longer to be purged, even if Postgres knows it as live.
  await f.ctx.db.execute(sql`update volumes set purge_asked_at = now(), state = 'live',
    used_bytes = 1, trashed_at = null, expires_at = null where id = ${trash.volumeId}`);
  const live = { ...trash, state: "live", usedBytes: 1, trashedAt: null, expiresAt: null } as const;
  await f.sync(hostId, { volumes: [live, other] });
  expect((await f.sync(hostId, { full: true })).purgeVolumes).toEqual([]);
});

const listVolumeIds = async (f: FleetContext) =>
  (await queryRows<{ id: string }>(f.ctx.db, sql`select id from volumes order by id`)).map(
    ({ id }) => id,
  );

/** Syncs volumes in the form in which an agent of any release sends them. */
const syncRawVolumes = (f: FleetContext, hostId: string, volumes: unknown[]) =>
  f.sync(hostId, { volumes: syncBody.shape.volumes.parse(volumes) });

test("an unreadable volume keeps its record, and the record of a purged volume is deleted", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const other = { ...trash, volumeId: newId("vol") };
  await f.sync(hostId, { volumes: [trash, other] });
  await purgeVolume(f.ctx, null, trash.volumeId, { confirm: trash.volumeId });
  await syncRawVolumes(f, hostId, [{ volumeId: other.volumeId }]);
  expect(await listVolumeIds(f)).toEqual([other.volumeId]);
  expect((await f.sync(hostId, { full: true })).purgeVolumes).toEqual([]);
  expect(await eventKinds(f)).toEqual(["volume-trashed", "volume-purging", "volume-purged"]);
  await syncRawVolumes(f, hostId, []);
  expect(await listVolumeIds(f)).toEqual([]);
});

test("I12: a volume that the control plane cannot describe keeps its record", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const other = { ...trash, volumeId: newId("vol") };
  const purged = { ...trash, volumeId: newId("vol") };
  // A newer agent adds a field.
  const newer = { ...trash, expiresAt: "2999-02-08T00:00:00.000Z", fileSystem: "ext4" };
  await syncRawVolumes(f, hostId, [newer, other, purged]);
  const row = sql`select expires_at::date::text as day from volumes where id = ${trash.volumeId}`;
  expect(await queryRows(f.ctx.db, row)).toEqual([{ day: "2999-02-08" }]);

  const logError = vi.spyOn(f.ctx.log, "error");
  // A newer agent adds a state.
  const unreadable = { ...trash, state: "frozen" };
  await syncRawVolumes(f, hostId, [unreadable, { ...other, tenant: "unknown" }]);
  expect(await listVolumeIds(f)).toEqual([trash.volumeId, other.volumeId].toSorted());
  expect(logError.mock.calls).toEqual([
    [
      { hostId, unreadable: 1, volumeIds: [trash.volumeId] },
      "a volume report has unreadable entries",
    ],
    [{ hostId, tenants: ["unknown"] }, "a volume report names unknown tenants"],
  ]);
  logError.mockRestore();
});

/** A database that counts the raw statements of its transactions. */
function countStatements(db: FleetContext["ctx"]["db"]) {
  let statements = 0;
  const countIn = <T extends Pick<typeof db, "execute">>(tx: T): T => {
    const execute = (query: Parameters<T["execute"]>[0]): unknown => {
      statements++;
      return tx.execute(query);
    };
    return new Proxy(tx, {
      get: (target, key) => (key === "execute" ? execute : (Reflect.get(target, key) as unknown)),
    });
  };
  const transaction: typeof db.transaction = (work) => db.transaction((tx) => work(countIn(tx)));
  const counting = new Proxy(db, {
    get: (target, key) =>
      key === "transaction" ? transaction : (Reflect.get(target, key) as unknown),
  });
  return { db: counting, statementsOf: () => statements };
}

test("a report of volumes costs one statement, even if it names an unknown tenant", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  const { db, statementsOf } = countStatements(f.ctx.db);
  const logError = vi.spyOn(f.ctx.log, "error");
  const syncImages = async (volumes: ReportedVolume[] | null) => {
    const before = statementsOf();
    await syncAs({ ...f.ctx, db }, hostId, { images: [], volumes });
    return statementsOf() - before;
  };
  const without = await syncImages(null);
  const unknown = { ...trash, volumeId: newId("vol"), tenant: "unknown" };
  expect(await syncImages([trash, unknown])).toBe(without + 1);
  expect(logError.mock.calls).toEqual([
    [{ hostId, tenants: ["unknown"] }, "a volume report names unknown tenants"],
  ]);
  logError.mockRestore();
});

test("I12: a volume report with an entry without an id deletes no record", async () => {
  const { f, hostId } = await start();
  const trash = await trashTheVolume(f, hostId);
  for (const entry of [null, {}, { volumeId: "vol_1" }]) {
    await syncRawVolumes(f, hostId, [entry]);
    expect(await listVolumeIds(f)).toEqual([trash.volumeId]);
  }
});
