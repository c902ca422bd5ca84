import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { assert } from "../../../src/lib/assert.ts";
import { newId } from "../../../src/lib/ids.ts";
import { listServicesOfNetwork } from "../../../src/db/queries/networks/networks.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createHostAuthenticator } from "../../../src/control/hosts/authenticate-host.ts";
import { deleteHost, SERVICES_PER_ROUND_MAX } from "../../../src/control/hosts/delete-host.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { jobPayloads } from "../../../src/contracts/jobs.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { reconcileService } from "../../../src/control/replicas/reconcile-replicas.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { expectCatalogTexts } from "../../support/fleet/expect-catalog-texts.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";

let fleet: FleetContext | undefined;

afterEach(async () => {
  if (fleet) await expectCatalogTexts(fleet.ctx.db);
  await fleet?.close();
  fleet = undefined;
});

/** Hosts h1.. of which each runs one set of the service `web`. */
async function fleetOf(
  hosts: number,
  more: Parameters<typeof serviceBody>[1] = {},
): Promise<{ f: FleetContext; hostIds: string[] }> {
  const f = await createFleetContext({ hostLostGraceMs: 0 });
  fleet = f;
  const hostIds: string[] = [];
  for (let i = 1; i <= hosts; i++) hostIds.push(await f.enroll(`h${i}`));
  const placement = { antiAffinity: ["web"] };
  await createService(
    f.ctx,
    f.tenantId,
    serviceBody("web", { replicas: hosts, placement, ...more }),
  );
  await f.placer.placeSets();
  for (const hostId of hostIds) await runAll(f, hostId);
  return { f, hostIds };
}

async function runAll(f: FleetContext, hostId: string): Promise<void> {
  const { sets } = await f.sync(hostId);
  await f.sync(hostId, { observed: sets.map((set) => observed(set, "running")) });
}

async function die(f: FleetContext, hostId: string): Promise<void> {
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 second' where id = ${hostId}`,
  );
  await replaceSetsOfLostHosts(f.ctx);
}

async function liveSets(f: FleetContext) {
  return queryRows<{ id: string; state: string; desired: string; hostId: string | null }>(
    f.ctx.db,
    sql`select id, state, desired, host_id as "hostId" from sets where deleted_at is null order by id`,
  );
}

test("a lost host is deleted with its sets and volumes after a confirmation, which frees its name", async () => {
  const { f, hostIds } = await fleetOf(3, { onHostLost: "wait" });
  const [deadId = ""] = hostIds;
  await die(f, deadId);
  await expect(deleteHost(f.ctx, deadId, {})).rejects.toMatchObject({
    code: "state-conflict",
    publicDetail: expect.stringContaining("1 set") as string,
  });
  const other = newId("host");
  await expect(deleteHost(f.ctx, deadId, { confirm: other })).rejects.toMatchObject({
    code: "invalid-request",
  });
  expect(await liveSets(f)).toHaveLength(3);
  const before = (await liveSets(f)).find((set) => set.hostId === deadId);
  await deleteHost(f.ctx, deadId, { confirm: deadId });
  const after = await liveSets(f);
  expect(after.map((set) => set.id)).not.toContain(before?.id);
  expect(after.filter((set) => set.hostId === null)).toMatchObject([
    { state: "pending", desired: "running" },
  ]);
  const again = await f.enroll("h1");
  expect(again).not.toBe(deadId);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
});

test("the credential of a deleted host is invalid, and the host no longer counts as lost", async () => {
  const { f, hostIds } = await fleetOf(5);
  const [first = "", second = ""] = hostIds;
  await f.ctx.db.execute(
    sql`update hosts set credential_hash = encode(sha256('secret'), 'hex') where id = ${first}`,
  );
  expect(await createHostAuthenticator(f.ctx)("secret")).toMatchObject({ hostId: first });
  await die(f, first);
  await deleteHost(f.ctx, first, { confirm: first });
  expect(await createHostAuthenticator(f.ctx)("secret")).toBeUndefined();
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 second' where id = ${second}`,
  );
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 1, held: 0 });
});

test("a deleted service gives up its name while a lost host has a set of it", async () => {
  const { f, hostIds } = await fleetOf(2, { replicas: 1 });
  const [placed] = await liveSets(f);
  const deadId = placed?.hostId ?? "";
  expect(hostIds).toContain(deadId);
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  const createAgain = () => createService(f.ctx, f.tenantId, serviceBody("web"));
  await expect(createAgain()).rejects.toMatchObject({
    code: "already-exists",
    publicDetail: expect.stringMatching(/1 set still exists\. Retry/) as string,
  });
  await die(f, deadId);
  expect(await closeServices(f.ctx)).toBe(1);
  await createAgain();
  await f.placer.placeSets();
  const [old, added] = (await liveSets(f)).sort((a) => (a.id === placed?.id ? -1 : 1));
  expect(old).toMatchObject({ id: placed?.id, desired: "deleted", hostId: deadId });
  expect(added?.hostId).not.toBe(deadId);
  // The host returns, and gets the order to remove the set.
  const { sets } = await f.sync(deadId, { full: true });
  expect(sets).toMatchObject([{ setId: placed?.id, desired: "deleted" }]);
  const [order] = sets;
  assert(order, "the host has an order");
  await f.sync(deadId, { observed: [observed(order, "absent")] });
  expect(await liveSets(f)).toMatchObject([{ id: added?.id }]);
  expect(await getService(f.ctx, f.tenantId, "web")).toMatchObject({ replicas: 1 });
});

test("a lost host with a set of a deleted service can be deleted", async () => {
  const { f } = await fleetOf(2, { replicas: 1 });
  const [placed] = await liveSets(f);
  const deadId = placed?.hostId ?? "";
  await die(f, deadId);
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  // Its set may still run, so its network is in use.
  const listUsers = () => listServicesOfNetwork(f.ctx.db, f.tenantId, "default", 10);
  await expect(getService(f.ctx, f.tenantId, "web")).rejects.toMatchObject({ code: "not-found" });
  expect(await listUsers()).toEqual(["web"]);
  await deleteHost(f.ctx, deadId, { confirm: deadId });
  expect(await liveSets(f)).toEqual([]);
  expect(await listUsers()).toEqual([]);
});

test("a stopped set is placed again and stays stopped when its host is deleted", async () => {
  const { f } = await fleetOf(2, { replicas: 1 });
  const [before] = await liveSets(f);
  const deadId = before?.hostId ?? "";
  await controlSet(f.ctx, null, before?.id ?? "", "stop");
  await die(f, deadId);
  await deleteHost(f.ctx, deadId, { confirm: deadId });
  expect(await liveSets(f)).toEqual([
    { id: before?.id, state: "pending", desired: "stopped", hostId: null },
  ]);
});

test("a ready host is never deleted with its sets, even with a confirmation", async () => {
  const { f, hostIds } = await fleetOf(2);
  const [hostId = ""] = hostIds;
  await expect(deleteHost(f.ctx, hostId, { confirm: hostId })).rejects.toMatchObject({
    code: "state-conflict",
  });
  expect(await liveSets(f)).toHaveLength(2);
});

test("a host that is deleted between two plans costs one placement a second round", async () => {
  const f = await createFleetContext();
  fleet = f;
  const deletedHostId = await f.enroll("a-gone");
  await f.enroll("b-stays", { allocatable: { ...smallHost, cpuMillis: 8_000 } });
  await createService(f.ctx, f.tenantId, serviceBody("first"));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  // The host is deleted after the last refresh, so the planner's memory still has it as ready.
  await f.ctx.db.execute(
    sql`update sets set host_id = (select id from hosts where name = 'b-stays')`,
  );
  await f.ctx.db.execute(sql`delete from hosts where id = ${deletedHostId}`);
  await createService(f.ctx, f.tenantId, serviceBody("second"));
  // The host first differs from its state in the plan, and then no longer exists.
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, conflicts: 2 });
  await createService(f.ctx, f.tenantId, serviceBody("third"));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, conflicts: 0 });
});

test("the deletion of a host of many services locks a few of them at a time", async () => {
  const f = await createFleetContext({ hostLostGraceMs: 0 });
  fleet = f;
  const hostId = await f.enroll("h1", { allocatable: { ...smallHost, cpuMillis: 100_000 } });
  const template = { ...serviceBody("small").template, cpuMillis: 100, memoryBytes: 2 ** 26 };
  for (let n = 0; n <= SERVICES_PER_ROUND_MAX; n++) {
    const body = { ...serviceBody(`s${n}`, { onHostLost: "wait" }), template };
    await createService(f.ctx, f.tenantId, body);
  }
  await f.placer.placeSets();
  await runAll(f, hostId);
  const witnessId = await f.enroll("h2");
  await die(f, hostId);
  const onHost = async () => (await liveSets(f)).filter((set) => set.hostId === hostId).length;
  expect(await onHost()).toBe(SERVICES_PER_ROUND_MAX + 1);
  const { deletion } = await withTx(f.ctx.db, async (tx) => {
    await tx.execute(sql`select id from services order by id desc limit 1 for update`);
    const running = deleteHost(f.ctx, hostId, { confirm: hostId });
    await waitForLockWait(f.ctx.db, "the deletion waits for the last service");
    expect(await onHost()).toBe(1);
    return { deletion: running };
  });
  await deletion;
  expect(await queryRows(f.ctx.db, sql`select id from hosts`)).toEqual([{ id: witnessId }]);
  expect((await liveSets(f)).map(({ state }) => state)).toEqual(
    Array.from({ length: SERVICES_PER_ROUND_MAX + 1 }, () => "pending"),
  );
});

/** Makes each such change fail in the database, until the returned function runs. */
async function failChanges(f: FleetContext, change: string): Promise<() => Promise<void>> {
  await f.ctx.db.execute(
    sql`create function fail_change() returns trigger language plpgsql as $$ begin raise exception 'change failed'; end $$`,
  );
  await f.ctx.db.execute(
    sql.raw(
      `create trigger fail_change before ${change} for each row execute function fail_change()`,
    ),
  );
  return async () => void (await f.ctx.db.execute(sql`drop function fail_change cascade`));
}

test("a deletion whose sets cannot be replaced immediately succeeds, and a job replaces them", async () => {
  const { f, hostIds } = await fleetOf(2, { onHostLost: "wait" });
  const [deadId = ""] = hostIds;
  await die(f, deadId);
  const endFailures = await failChanges(f, "insert on sets");
  f.enqueued.length = 0;
  await deleteHost(f.ctx, deadId, { confirm: deadId });
  expect(await liveSets(f)).toHaveLength(1);
  await endFailures();
  const jobs = f.enqueued.filter(({ name }) => name === "reconcile-service");
  expect(jobs).toHaveLength(1);
  const payload = jobPayloads["reconcile-service"].parse(jobs[0]?.payload);
  await reconcileService(f.ctx, payload.serviceId, payload.generation);
  expect(await liveSets(f)).toHaveLength(2);
});

test("a deletion succeeds even if the services without sets cannot be closed immediately", async () => {
  const { f } = await fleetOf(2, { replicas: 1 });
  const [placed] = await liveSets(f);
  const deadId = placed?.hostId ?? "";
  await die(f, deadId);
  await deleteService(f.ctx, f.tenantId, "web", undefined);
  // As if the host were lost later.
  await f.ctx.db.execute(sql`update services set deleted_at = null`);
  const endFailures = await failChanges(f, "update of deleted_at on services");
  await deleteHost(f.ctx, deadId, { confirm: deadId });
  expect(await queryRows(f.ctx.db, sql`select 1 from hosts where id = ${deadId}`)).toEqual([]);
  await endFailures();
  expect(await closeServices(f.ctx)).toBe(1);
});
