import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { findHostLease } from "../../../src/db/queries/hosts/write-hosts.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { countHeldHosts } from "../../../src/db/queries/hosts/lost-hosts.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import {
  replaceSetsOfLostHosts,
  watchFleet,
} from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { syncHost } from "../../../src/control/hosts/sync-host.ts";
import { expectCatalogTexts } from "../../support/fleet/expect-catalog-texts.ts";
import {
  createFleetContext,
  emptySync,
  type FleetContext,
  observed,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";

let fleet: FleetContext | undefined;

afterEach(async () => {
  if (fleet) await expectCatalogTexts(fleet.ctx.db);
  await fleet?.close();
  fleet = undefined;
});

/** Hosts h1.., one running set of service "web" on each. */
async function fleetOf(
  hosts: number,
  more: Parameters<typeof serviceBody>[1] = {},
): Promise<{ f: FleetContext; hostIds: string[] }> {
  const f = await createFleetContext({ hostLostGraceMs: 0 });
  fleet = f;
  const hostIds: string[] = [];
  for (let i = 1; i <= hosts; i++) hostIds.push(await f.enroll(`h${i}`));
  await createService(
    f.ctx,
    f.tenantId,
    serviceBody("web", { replicas: hosts, placement: { antiAffinity: ["web"] }, ...more }),
  );
  await f.placer.placeSets();
  for (const hostId of hostIds) await runAll(f, hostId);
  return { f, hostIds };
}

async function runAll(f: FleetContext, hostId: string): Promise<void> {
  const answer = await f.sync(hostId);
  const starting = answer.sets.filter((set) => set.desired === "running");
  await f.sync(hostId, { observed: starting.map((set) => observed(set, "running")) });
}

async function expireLease(f: FleetContext, hostIds: readonly string[]): Promise<void> {
  for (const id of hostIds) {
    await f.ctx.db.execute(
      sql`update hosts set lease_expires_at = now() - interval '1 second' where id = ${id}`,
    );
  }
}

async function setsBy(
  f: FleetContext,
  hostId: string | null,
): Promise<{ state: string; desired: string }[]> {
  return queryRows(
    f.ctx.db,
    sql`select state, desired from sets where deleted_at is null and host_id is not distinct from ${hostId} order by id`,
  );
}

test("I3: new sets replace the sets of a lost host, and the returning host removes the old ones", async () => {
  const { f, hostIds } = await fleetOf(5);
  const [lostId = ""] = hostIds;
  await expireLease(f, [lostId]);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 1, held: 0 });
  expect(await setsBy(f, lostId)).toEqual([{ state: "lost", desired: "deleted" }]);
  expect(await setsBy(f, null)).toEqual([{ state: "pending", desired: "running" }]);
  // The returning host receives all desired sets, including the deletion of the old copy. It gets
  // no new sets before it has accepted them.
  const back = await f.sync(lostId);
  expect(back.full).toBe(true);
  expect(back.sets.map((set) => set.desired)).toEqual(["deleted"]);
  const [during] = await queryRows<{ state: string }>(
    f.ctx.db,
    sql`select state from hosts where id = ${lostId}`,
  );
  expect(during?.state).toBe("lost");
  await f.sync(lostId, {
    acceptedGeneration: back.hostGeneration,
    observed: back.sets.map((set) => observed(set, "absent")),
  });
  const [after] = await queryRows<{ state: string }>(
    f.ctx.db,
    sql`select state from hosts where id = ${lostId}`,
  );
  expect(after?.state).toBe("ready");
  expect(await setsBy(f, lostId)).toEqual([]);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
});

test("I12: an outage of Berth marks no host lost, and only those lost that do not return after it", async () => {
  const { f, hostIds } = await fleetOf(5);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0 });
  // Postgres does not respond for 40 s, longer than the rest of each lease.
  await f.ctx.db.execute(sql`update fleet_watch set watched_at = now() - interval '40 seconds'`);
  await expireLease(f, hostIds);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
  // One agent returns. The others are still in their backoff, and their sets serve.
  await f.sync(hostIds[0] ?? "");
  await age(f, 70);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
  for (const id of hostIds) expect(await setsBy(f, id)).toMatchObject([{ state: "running" }]);
  for (const id of hostIds.slice(1, 4)) await f.sync(id);
  await age(f, 10);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1 });
  expect(await setsBy(f, hostIds[4] ?? "")).toMatchObject([{ state: "lost" }]);
  expect(await setsBy(f, hostIds[1] ?? "")).toMatchObject([{ state: "running" }]);
});

test("I12: a short pause of the sweep is an outage, because its backoffs may outlast leases", async () => {
  const { f, hostIds } = await fleetOf(3);
  await replaceSetsOfLostHosts(f.ctx);
  await f.ctx.db.execute(sql`update fleet_watch set watched_at = now() - interval '15 seconds'`);
  await expireLease(f, hostIds.slice(0, 1));
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
});

test("a long failover is not an outage, because each job worker watches the fleet", async () => {
  const { f, hostIds } = await fleetOf(3);
  await replaceSetsOfLostHosts(f.ctx);
  const other = f.secondContext();
  for (let elapsed = 0; elapsed < 15; elapsed += 3) {
    await f.ctx.db.execute(
      sql`update fleet_watch set watched_at = watched_at - interval '3 seconds'`,
    );
    await watchFleet(other);
  }
  await expireLease(f, hostIds.slice(0, 1));
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 1 });
});

test("I12: a rollback that missed the end of an outage does not make the next one longer", async () => {
  const { f, hostIds } = await fleetOf(3);
  await expireLease(f, hostIds);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0 });
  // The previous release records the watch and the end of the outage, and not its start.
  await f.ctx.db.execute(
    sql`update fleet_watch set gap_started_at = now() - interval '2 days', gap_at = now() - interval '1 day'`,
  );
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
});

test("a host that dies soon after an outage, but has synced since, is lost without a delay", async () => {
  const { f, hostIds } = await fleetOf(5);
  await expireLease(f, hostIds);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0 });
  for (const id of hostIds) await f.sync(id);
  await f.ctx.db.execute(sql`update fleet_watch set gap_at = gap_at - interval '60 seconds'`);
  await expireLease(f, hostIds.slice(0, 1));
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 1 });
});

test("I12: without any sync for five minutes, all hosts are lost and no set is replaced", async () => {
  const { f, hostIds } = await fleetOf(3);
  await expireLease(f, hostIds);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
  await age(f, 290, true);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
  await age(f, 20, true);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 3, replacedSets: 0 });
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
  expect(await setsBy(f, null)).toEqual([]);
});

test("I12: no set is replaced while a large share of a pool is lost together", async () => {
  const { f, hostIds } = await fleetOf(5);
  await expireLease(f, hostIds.slice(0, 3));
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 3, replacedSets: 0, held: 3 });
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0, held: 3 });
  const reported = sql`select text from events where kind = 'replacement-held'`;
  const texts = (await queryRows<{ text: string }>(f.ctx.db, reported)).map(({ text }) => text);
  expect(texts).toHaveLength(3); // one event a host, however often the sweep runs
  expect(texts[0]).toContain("3 of 5 hosts of pool default went down together");
  expect(await countHeldHosts(f.ctx.db)).toBe(3);
  for (const id of hostIds.slice(0, 3)) await returnWithSets(f, id);
  expect(await countHeldHosts(f.ctx.db)).toBe(0);
  expect(await setsBy(f, null)).toEqual([]);
});

/** The host syncs again, accepts the decisions since then, and reports its sets as running. */
async function returnWithSets(f: FleetContext, hostId: string): Promise<void> {
  const back = await f.sync(hostId);
  await f.sync(hostId, {
    acceptedGeneration: back.hostGeneration,
    observed: back.sets
      .filter((set) => set.desired === "running")
      .map((set) => observed(set, "running")),
  });
}

/**
 * Shifts everything that the failover sweep has recorded into the past. The outage of that time
 * ended then, unless it continues.
 */
async function age(f: FleetContext, seconds: number, isContinuing = false): Promise<void> {
  const ago = sql`make_interval(secs => ${seconds})`;
  await f.ctx.db.execute(
    sql`update hosts set lost_at = lost_at - ${ago}, returned_at = returned_at - ${ago}`,
  );
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = lease_expires_at - ${ago} where lease_expires_at < now()`,
  );
  await f.ctx.db.execute(
    sql`update fleet_watch set gap_started_at = gap_started_at - ${ago},
          gap_at = case when ${isContinuing} then watched_at else gap_at - ${ago} end`,
  );
}

test("a lost host without sets does not delay the next failover", async () => {
  const { f, hostIds } = await fleetOf(6);
  for (const hostId of hostIds.slice(0, 2)) {
    await expireLease(f, [hostId]);
    expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({
      lost: 1,
      replacedSets: 1,
      held: 0,
    });
  }
});

test("a host that changes between lost and unhealthy is down since the first change", async () => {
  const { f, hostIds } = await fleetOf(2);
  const [hostId = ""] = hostIds;
  const downSince = async () =>
    (
      await queryRows<{ at: string }>(
        f.ctx.db,
        sql`select lost_at::text as at from hosts where id = ${hostId}`,
      )
    )[0]?.at;
  const docker = { state: "unreachable" as const, detail: "connection refused" };
  await f.sync(hostId, { docker });
  const first = await downSince();
  expect(first).not.toBeNull();
  await expireLease(f, [hostId]);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1 });
  expect(await downSince()).toBe(first);
  await f.sync(hostId, { docker });
  expect(await downSince()).toBe(first);
});

test("I12: after an outage of Berth, a silent host gets several agent backoffs to return", async () => {
  const { f, hostIds } = await fleetOf(5);
  f.ctx.settings = { ...f.ctx.settings, hostLostGraceMs: 30_000 };
  await expireLease(f, hostIds);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0 });
  for (const id of hostIds.slice(0, 3)) await f.sync(id);
  await age(f, 80);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 2, replacedSets: 0, held: 0 });
  await age(f, 35);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 0, held: 0 });
  // Another host returns late, so the remaining ones may return equally late.
  await returnWithSets(f, hostIds[3] ?? "");
  await age(f, 100);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 0, held: 0 });
  await age(f, 30);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 1, held: 0 });
});

test("I12: only a host that has synced recently permits replacements; a valid lease does not", async () => {
  const { f, hostIds } = await fleetOf(5);
  await expireLease(f, hostIds.slice(0, 1));
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() + interval '10 seconds' where id <> ${hostIds[0]}`,
  );
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 0, held: 0 });
});

test("a locked or failing service does not delay the failover of another", async () => {
  const { f, hostIds } = await fleetOf(8);
  const { id: webId } = await getService(f.ctx, f.tenantId, "web");
  const other = serviceBody("other", { replicas: 8, placement: { antiAffinity: ["other"] } });
  await createService(f.ctx, f.tenantId, other);
  await f.placer.placeSets();
  for (const hostId of hostIds) await runAll(f, hostId);
  await expireLease(f, hostIds.slice(0, 1));
  await withTx(f.secondContext().db, async (tx) => {
    await tx.execute(sql`select id from services where id = ${webId} for update`);
    expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 1 });
  });
  await f.ctx.db.execute(sql`create function fail_always() returns trigger language plpgsql
    as $$ begin raise exception 'the row is broken'; end $$`);
  await f.ctx.db.execute(
    sql.raw(`create trigger break_web before update on sets for each row
      when (old.service_id = '${webId}' and new.desired = 'deleted') execute function fail_always()`),
  );
  await expireLease(f, hostIds.slice(1, 2));
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 1 });
  await f.ctx.db.execute(sql`drop trigger break_web on sets`);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 0, replacedSets: 2 });
});

test("a host that returns within the grace period keeps its sets, which are running again", async () => {
  const { f, hostIds } = await fleetOf(3);
  const [hostId = ""] = hostIds;
  f.ctx.settings = { ...f.ctx.settings, hostLostGraceMs: 60_000 };
  await expireLease(f, [hostId]);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 0 });
  expect(await setsBy(f, hostId)).toEqual([{ state: "lost", desired: "running" }]);
  const back = await f.sync(hostId);
  await f.sync(hostId, {
    acceptedGeneration: back.hostGeneration,
    observed: back.sets.map((set) => observed(set, "running")),
  });
  expect(await setsBy(f, hostId)).toEqual([{ state: "running", desired: "running" }]);
});

test("a service with the policy `wait` keeps its set on the lost host", async () => {
  const { f, hostIds } = await fleetOf(3, { onHostLost: "wait" });
  const [hostId = ""] = hostIds;
  await expireLease(f, [hostId]);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 0 });
  expect(await setsBy(f, hostId)).toEqual([{ state: "lost", desired: "running" }]);
});

test("I3: a returning host is ready only after it has accepted all decisions about its sets", async () => {
  const { f, hostIds } = await fleetOf(5);
  const [lostId = ""] = hostIds;
  const before = await findHostLease(f.ctx.db, { hostId: lostId });
  assert(before, "the host is enrolled");
  await expireLease(f, [lostId]);
  await f.ctx.db.execute(
    sql`update hosts set state = 'lost', lost_at = now(), resync_required = true where id = ${lostId}`,
  );
  const recognised = await findHostLease(f.ctx.db, { hostId: lostId });
  assert(recognised, "the host is enrolled");
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 1 });
  const docker = { state: "ok" as const, detail: "" };
  const report = { ...emptySync({ docker }), acceptedGeneration: recognised.generation };
  await syncHost(f.ctx, recognised, report, AbortSignal.timeout(10_000));
  const stateOf = async () => (await findHostLease(f.ctx.db, { hostId: lostId }))?.state;
  expect(await stateOf()).toBe("lost");
  const { hostGeneration } = await f.sync(lostId);
  await f.sync(lostId, { docker, acceptedGeneration: hostGeneration });
  expect(await stateOf()).toBe("ready");
});
