import { sql } from "drizzle-orm";
import type { SetAddresses } from "../../../src/contracts/agent-protocol/address-report.ts";
import type { PlacementSpec } from "../../../src/contracts/api/placement-spec.ts";
import { endQuarantines } from "../../../src/control/networks/end-quarantines.ts";
import {
  findFleetNetwork,
  listNetworksOnHost,
} from "../../../src/db/queries/networks/host-networks.ts";
import { stripPrefixLength } from "../../../src/lib/ip/ip-address.ts";
import { expect, test } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { ServiceAddresses } from "../../../src/control/networks/assign-service-addresses.ts";
import { storeAddressReport } from "../../../src/control/networks/claim-unknown-addresses.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { newId } from "../../../src/lib/ids.ts";
import { migrate } from "../../../src/db/migrate.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import {
  enrollNetworked,
  findAddressFaults,
  listAddresses,
  setFeatures,
  syncOf,
} from "../../support/fleet/network-hosts.ts";

/**
 * After a restore, the database lacks the newest sets and networks. Agents still run these sets
 * with their addresses, so the next ones must be different.
 */
const start = fleetPerTest();
/** The features of a networked host whose agent reports addresses. */
const reporting = ["networks", "attachments", "address-reports"];
const FORMER_XID = "500000000";
const largeHost = { ...smallHost, cpuMillis: 64_000, memoryBytes: 2 ** 38 };

async function addNetwork(f: FleetContext, name: string, pools?: string[]): Promise<number> {
  const body = createNetworkBody.parse({ name, subnets: [{ cidr: "10.1.0.0/16", pools }] });
  return (await createNetwork(f.ctx, f.tenantId, body)).vni;
}

/** The addresses of the sets of a host, as an agent reports them. */
async function readOwnAddresses(f: FleetContext, hostId: string): Promise<SetAddresses[]> {
  const { sets } = await f.sync(hostId, { full: true });
  return sets.map(({ setId, attachments = [] }) => ({
    setId,
    networks: attachments.map(({ networkId, mac, addresses }) => ({
      networkId,
      mac,
      addresses: addresses.map(stripPrefixLength),
    })),
  }));
}

function inNetwork(service: string, replicas: number, network = "net") {
  const { template, ...body } = serviceBody(service, { replicas });
  return { ...body, template: { ...template, networks: [{ network }] } };
}

async function addSets(
  f: FleetContext,
  service: string,
  replicas: number,
  spread: PlacementSpec["spread"] = [],
): Promise<string[]> {
  const known = new Set((await listAddresses(f)).map(({ address }) => address));
  const body = inNetwork(service, replicas);
  const placement = { ...body.placement, spread };
  await createService(f.ctx, f.tenantId, { ...body, placement });
  expect(await f.placer.placeSets()).toMatchObject({ placed: replicas });
  const addresses = (await listAddresses(f)).map(({ address }) => address);
  return addresses.filter((address) => !known.has(address));
}

/** Runs `work`, and then restores a backup from before it. Its rows have ids of another server. */
async function loseMinutes<T>(f: FleetContext, isOtherServer: boolean, work: () => Promise<T>) {
  const { db } = f.ctx;
  const before = await queryRows<{ address: string }>(
    db,
    sql`select subnet_id || ' ' || host(address) as address from addresses`,
  );
  const positions = await queryRows(db, sql`select id, last_offset from subnets`);
  const [vnis] = await queryRows<{ last: number }>(
    db,
    sql`select last_value::int as last from network_vnis`,
  );
  const lost = await work();
  const known = JSON.stringify(before.map(({ address }) => address));
  await db.execute(
    sql`delete from sets where host_id is not null and id in (
          select set_id from addresses where not ${known}::jsonb ? (subnet_id || ' ' || host(address)))`,
  );
  await db.execute(
    sql`delete from addresses where not ${known}::jsonb ? (subnet_id || ' ' || host(address))`,
  );
  await db.execute(
    sql`update subnets s set last_offset = p.last_offset, unavailable = (select count(*) from addresses where subnet_id = s.id)
        from json_to_recordset(${JSON.stringify(positions)}::json) as p(id text, last_offset bigint) where p.id = s.id`,
  );
  await db.execute(sql`select setval('network_vnis', ${vnis?.last ?? 0})`);
  if (isOtherServer) await db.execute(sql`update hosts set changed_xid = ${FORMER_XID}::xid8`);
  return lost;
}

test.each([
  { isOtherServer: true, isRestored: false },
  { isOtherServer: false, isRestored: true },
])("I18: new sets do not get the addresses of unknown sets: %o", async (restore) => {
  const f = await start();
  await enrollNetworked(f, "h1", { allocatable: largeHost });
  await addNetwork(f, "net", ["10.1.0.0-10.1.1.255", "10.1.9.0-10.1.10.255"]);
  await addSets(f, "old", 5);
  const taken = new Set<string>();
  // A migration that stops after it has skipped the addresses skips them again.
  for (const round of [1, 2, 3]) {
    const lost = await loseMinutes(f, restore.isOtherServer, () => addSets(f, `lost${round}`, 8));
    for (const address of lost) taken.add(address);
    await migrate(f.databaseUrl, { isRestored: restore.isRestored });
    const next = await addSets(f, `next${round}`, 8);
    expect(next.filter((address) => taken.has(address))).toEqual([]);
    expect(await findAddressFaults(f)).toEqual([]);
  }
});

test("I18: after a restore, no set gets an address that an unknown set has, even in a small subnet", async () => {
  const f = await start();
  const hosts = [await enrollNetworked(f, "h1"), await enrollNetworked(f, "h2")];
  for (const hostId of hosts) await setFeatures(f, hostId, reporting);
  await addNetwork(f, "net", ["10.1.0.2-10.1.0.6"]);
  await addSets(f, "old", 1);
  const spread = { by: "host" as const, maxSkew: 1 };
  const { lost, reports } = await loseMinutes(f, false, async () => ({
    lost: await addSets(f, "lost", 3, [spread]),
    reports: await Promise.all(hosts.map((hostId) => readOwnAddresses(f, hostId))),
  }));
  await migrate(f.databaseUrl, { isRestored: true });
  const expectWaiting = async () => {
    const outcome = await f.placer.placeSets();
    expect(outcome).toMatchObject({ placed: 0, rejected: 1 });
    const [reason] = await queryRows<{ codes: string }>(
      f.ctx.db,
      sql`select reasons::text as codes from rejections`,
    );
    expect(reason?.codes).toContain("addresses-unknown");
    expect(await new ServiceAddresses(f.ctx).assign()).toBe(0);
    await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
  };
  await createService(f.ctx, f.tenantId, inNetwork("next", 1));
  await expectWaiting();
  for (const [position, hostId] of hosts.entries()) {
    expect(await syncOf(f, hostId, { full: true })).toMatchObject({ sendAddresses: true });
    await expectWaiting();
    const addresses = reports[position] ?? [];
    const answer = await syncOf(f, hostId, { full: true, addresses });
    expect(answer.sendAddresses).toBeUndefined();
    expect((await syncOf(f, hostId, { full: true })).sendAddresses).toBeUndefined();
  }
  // Four of the five addresses have a set: the others get the last one.
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, rejected: 0 });
  await createService(f.ctx, f.tenantId, inNetwork("more", 1));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 1 });
  const rows = await listAddresses(f);
  expect(rows.map(({ address }) => address)).toEqual(
    [2, 3, 4, 5, 6].map((number) => `10.1.0.${number}`),
  );
  expect(await findAddressFaults(f)).toEqual([]);
  const unknown = new Set(reports.flat().map(({ setId }) => setId));
  const claimed = rows.filter(
    ({ setId, address }) => unknown.has(setId ?? "") && lost.includes(address),
  );
  expect(claimed).toHaveLength(3);
  const events = await queryRows<{ sets: number }>(
    f.ctx.db,
    sql`select (data->>'sets')::int as sets from events where kind = 'host-unknown-sets'`,
  );
  expect(events.reduce((sum, { sets }) => sum + sets, 0)).toBe(3);

  // Other hosts reach the unknown sets.
  const networkId = reports.flat()[0]?.networks[0]?.networkId ?? "";
  const network = await findFleetNetwork(f.ctx.db, networkId);
  expect(network?.ports.flatMap(({ addresses }) => addresses).toSorted()).toEqual(
    rows.map(({ address }) => address),
  );
  for (const hostId of hosts)
    expect(await listNetworksOnHost(f.ctx.db, hostId)).toEqual([networkId]);

  // Their addresses stay assigned until their hosts no longer report the sets.
  for (const hostId of hosts) await f.sync(hostId, { full: true, unlistedSets: [] });
  const after = await listAddresses(f);
  expect(
    after.filter(({ state }) => state === "quarantined").map(({ address }) => address),
  ).toEqual(lost.toSorted());
  expect(await findAddressFaults(f)).toEqual([]);
  await f.ctx.db.execute(
    sql`update addresses set quarantined_at = quarantined_at - interval '601 s' where state = 'quarantined'`,
  );
  expect(await endQuarantines(f.ctx)).toBe(3);
});

test("I18: an agent reports the addresses of sets that a failover lost, and the conflicts are an event", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1");
  await setFeatures(f, hostId, reporting);
  await addNetwork(f, "net");
  const { lost, reported } = await loseMinutes(f, false, async () => ({
    lost: await addSets(f, "lost", 2),
    reported: await readOwnAddresses(f, hostId),
  }));
  // Nothing says that the database has lost commits, so the next set gets one of the addresses.
  const [taken] = await addSets(f, "next", 1);
  expect(lost).toContain(taken);
  const unlistedSets = reported.map(({ setId }) => setId).toSorted();
  await syncOf(f, hostId, { full: true, unlistedSets });
  expect(await syncOf(f, hostId, {})).toMatchObject({ sendAddresses: true });
  await syncOf(f, hostId, { full: true, unlistedSets, addresses: reported });
  const events = await queryRows<{ data: unknown }>(
    f.ctx.db,
    sql`select data from events where kind = 'host-addresses-conflicting'`,
  );
  expect(events).toEqual([{ data: { addresses: [taken] } }]);
  const [next] = await addSets(f, "again", 1);
  expect(lost).not.toContain(next);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("I18: a report claims an address that becomes claimable while it waits for its host", async () => {
  const f = await start();
  const hosts = [await enrollNetworked(f, "h1"), await enrollNetworked(f, "h2")];
  for (const hostId of hosts) await setFeatures(f, hostId, reporting);
  await addNetwork(f, "net");
  await addSets(f, "web", 1);
  const [set] = await queryRows<{ setId: string; owner: string; networkId: string }>(
    f.ctx.db,
    sql`select s.id as "setId", s.host_id as owner, n.id as "networkId" from sets s, networks n where n.name = 'net'`,
  );
  const { setId = "", owner = "", networkId = "" } = set ?? {};
  await migrate(f.databaseUrl, { isRestored: true });
  const reporter = hosts.find((hostId) => hostId !== owner) ?? "";
  const networks = [{ networkId, mac: "0a:00:0a:01:00:63", addresses: ["10.1.0.99"] }];
  let storing: Promise<void> | undefined;
  await withTx(f.ctx.db, async (tx) => {
    await tx.execute(sql`select 1 from hosts where id = ${reporter} for no key update`);
    storing = storeAddressReport(f.ctx, reporter, [{ setId, networks }]);
    await waitForLockWait(f.ctx.db, "the report waits for its host");
    // Another host, on which the database has the set, is lost meanwhile.
    await f.ctx.db.execute(sql`update hosts set state = 'lost' where id = ${owner}`);
  });
  await storing;
  const claimed = (await listAddresses(f)).find(({ address }) => address === "10.1.0.99");
  expect(claimed).toMatchObject({ setId, state: "assigned" });
  expect((await syncOf(f, reporter, {})).sendAddresses).toBeUndefined();
});

test("a lost host and a silent one stop the placements only for a while", async () => {
  const f = await start();
  const [lost] = [await enrollNetworked(f, "h1"), await enrollNetworked(f, "h2")];
  await setFeatures(f, lost, reporting);
  await addNetwork(f, "net");
  await migrate(f.databaseUrl, { isRestored: true });
  await createService(f.ctx, f.tenantId, inNetwork("web", 1));
  const place = async (state: string, minutes: number) => {
    await f.ctx.db.execute(
      sql`update hosts set state = ${state}, addresses_unknown_since = now() - make_interval(mins => ${minutes}) where id = ${lost}`,
    );
    await f.ctx.db.execute(sql`update sets set plan_after = now()`);
    return (await f.placer.placeSets()).placed;
  };
  expect(await place("lost", 1)).toBe(0);
  expect(await place("ready", 9)).toBe(0);
  expect(await place("lost", 3)).toBe(1);
});

test("a host that always reports other unknown sets delays only its own networks, once an hour", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1", { allocatable: largeHost });
  await setFeatures(f, hostId, reporting);
  await addNetwork(f, "net");
  await addNetwork(f, "other");
  await addSets(f, "web", 1);
  let reports = 0;
  const reportOtherSet = () =>
    syncOf(f, hostId, { full: true, unlistedSets: [`set_0000000000000000000000000${reports++}`] });
  const place = async (network: string) => {
    await createService(f.ctx, f.tenantId, inNetwork(`next${reports}-${network}`, 1, network));
    await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
    return (await f.placer.placeSets()).placed;
  };
  const moveWait = (minutes: number) =>
    f.ctx.db.execute(
      sql`update hosts set addresses_awaited_since = addresses_awaited_since - make_interval(mins => ${minutes})`,
    );

  await reportOtherSet();
  expect(await place("other")).toBe(1);
  expect(await place("net")).toBe(0);
  // It never reports addresses, but other sets: the wait ends all the same.
  await moveWait(3);
  await reportOtherSet();
  expect(await place("net")).toBe(2);
  // It reports addresses, and then other sets. Berth requests their addresses, but does not wait.
  await syncOf(f, hostId, { full: true, addresses: [] });
  expect((await syncOf(f, hostId, {})).sendAddresses).toBeUndefined();
  await reportOtherSet();
  expect(await syncOf(f, hostId, {})).toMatchObject({ sendAddresses: true });
  expect(await place("net")).toBe(1);
  // An hour later, Berth waits again.
  await syncOf(f, hostId, { full: true, addresses: [] });
  await moveWait(60);
  await reportOtherSet();
  expect(await place("net")).toBe(0);
});

test("Berth neither asks nor awaits an agent that does not report addresses", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1", { allocatable: largeHost });
  await setFeatures(f, hostId, ["networks", "attachments"]);
  await addNetwork(f, "net");
  await addSets(f, "web", 1);
  await migrate(f.databaseUrl, { isRestored: true });
  await syncOf(f, hostId, { full: true, unlistedSets: ["set_00000000000000000000000000"] });
  expect((await syncOf(f, hostId, {})).sendAddresses).toBeUndefined();
  await addSets(f, "next", 1);
  // It is asked after its upgrade.
  await setFeatures(f, hostId, reporting);
  expect(await syncOf(f, hostId, {})).toMatchObject({ sendAddresses: true });
});

test("a host claims only on request, for sets that no live host has, and within bounds", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1", { allocatable: largeHost });
  const other = await enrollNetworked(f, "h2", { allocatable: largeHost });
  for (const id of [hostId, other]) await setFeatures(f, id, reporting);
  await addNetwork(f, "net");
  await addNetwork(f, "private");
  await addSets(f, "web", 2, [{ by: "host", maxSkew: 1 }]);
  const networks = await queryRows<{ name: string; id: string }>(
    f.ctx.db,
    sql`select name, id from networks`,
  );
  const [live] = await readOwnAddresses(f, other);
  const inventId = (number: number) => `set_${String(number).padStart(26, "0")}`;
  const report = (
    setId: string,
    ...claims: [network: string, address: string][]
  ): SetAddresses => ({
    setId,
    networks: claims.map(([network, address]) => ({
      networkId: networks.find(({ name }) => name === network)?.id ?? "",
      mac: "0a:00:0a:01:00:64",
      addresses: [address],
    })),
  });
  const listClaims = async () =>
    (
      await queryRows<{ address: string }>(
        f.ctx.db,
        sql`select host(address) as address from addresses where unknown_host_id = ${hostId} order by address`,
      )
    ).map(({ address }) => address);
  let requests = 0;
  const request = () =>
    syncOf(f, hostId, { full: true, unlistedSets: [inventId(0), inventId(9_000 + requests++)] });
  const send = (addresses: SetAddresses[]) => syncOf(f, hostId, { addresses });

  await send([report(inventId(0), ["net", "10.1.0.99"])]);
  expect(await listClaims()).toEqual([]);
  await request();
  await send([
    report(inventId(0), ["net", "10.1.0.100"], ["net", "10.1.0.101"], ["private", "10.1.0.102"]),
    report(live?.setId ?? "", ["net", "10.1.0.103"]),
  ]);
  expect(await listClaims()).toEqual(["10.1.0.100"]);
  await request();
  await send([report(inventId(0), ["net", "10.1.0.104"])]);
  expect(await listClaims()).toEqual(["10.1.0.100"]);
  await request();
  await send(
    Array.from({ length: 1_200 }, (_, number) => {
      const address = `10.1.${10 + Math.floor(number / 200)}.${1 + (number % 200)}`;
      return report(inventId(number + 1), ["net", address]);
    }),
  );
  expect(await listClaims()).toHaveLength(1_000);
  expect(await findAddressFaults(f)).toEqual([]);
  // A restored database may lack the first set of a network on a host.
  expect(await listNetworksOnHost(f.ctx.db, hostId)).toHaveLength(1);
  await migrate(f.databaseUrl, { isRestored: true });
  await send([report(inventId(0), ["private", "10.1.0.105"])]);
  expect(await listNetworksOnHost(f.ctx.db, hostId)).toHaveLength(2);
});

test("I18: services and sets do not get the service addresses that a restore has lost", async () => {
  const f = await start();
  await enrollNetworked(f, "h1", { allocatable: largeHost });
  await addNetwork(f, "net");
  await addSets(f, "old", 2);
  const sweep = new ServiceAddresses(f.ctx);
  const addressOfOld = async () => (await getService(f.ctx, f.tenantId, "old")).addresses[0];
  const lost = await loseMinutes(f, true, async () => {
    await sweep.assign();
    return (await addressOfOld())?.addresses ?? [];
  });
  await f.ctx.db.execute(sql`update services set addressed_revision = null`);
  expect(lost).toEqual(["10.1.0.4"]);
  expect(await addressOfOld()).toBeUndefined();
  await migrate(f.databaseUrl);
  await sweep.assign();
  const next = [...(await addSets(f, "next", 5)), ...((await addressOfOld())?.addresses ?? [])];
  expect(next).toHaveLength(6);
  expect(next).not.toContain(lost[0]);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("I18: after a restore, only the same service gets a service address that a host reports", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1", { allocatable: largeHost });
  await setFeatures(f, hostId, reporting);
  await addNetwork(f, "net", ["10.1.0.2-10.1.0.7"]);
  await addSets(f, "old", 1);
  const sweep = new ServiceAddresses(f.ctx);
  const addressOf = async (service: string) =>
    (await getService(f.ctx, f.tenantId, service)).addresses[0]?.addresses[0] ?? "";
  const old = await loseMinutes(f, false, async () => {
    await sweep.assign();
    return addressOf("old");
  });
  const lost = "10.1.0.4";
  expect(old).toBe("10.1.0.3");
  await f.ctx.db.execute(sql`update services set addressed_revision = null`);
  await migrate(f.databaseUrl, { isRestored: true });
  await createService(f.ctx, f.tenantId, inNetwork("next", 0));
  expect(await syncOf(f, hostId, { full: true })).toMatchObject({ sendAddresses: true });
  const { id: oldId } = await getService(f.ctx, f.tenantId, "old");
  const networkId = (await readOwnAddresses(f, hostId))[0]?.networks[0]?.networkId ?? "";
  const addresses = [
    { serviceId: oldId, networkId, addresses: [old] },
    { serviceId: newId("svc"), networkId, addresses: [lost] },
    { serviceId: newId("svc"), networkId, addresses: ["10.1.9.9"] },
  ];
  await syncOf(f, hostId, { full: true, addresses });
  expect(await sweep.assign()).toBe(2);
  expect(await addressOf("old")).toBe(old);
  expect(await addressOf("next")).not.toBe(lost);
  await createService(f.ctx, f.tenantId, inNetwork("more", 3));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 2, rejected: 1 });
  const rows = await listAddresses(f);
  expect(rows.filter(({ state }) => state === "quarantined")).toMatchObject([{ address: lost }]);
  expect(await findAddressFaults(f)).toEqual([]);

  // Without a restore, a host claims no address of a service.
  await endQuarantines(f.ctx, undefined, { seconds: 0 });
  const unlistedSets = ["set_00000000000000000000000000"];
  await syncOf(f, hostId, { full: true, unlistedSets });
  await syncOf(f, hostId, { full: true, unlistedSets, addresses });
  expect(await listAddresses(f)).toHaveLength(rows.length - 1);
  await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1, rejected: 0 });
});

test("I18: new networks do not get the VNIs of unknown networks", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  const lost = await loseMinutes(f, true, async () => {
    const vnis = [await addNetwork(f, "a"), await addNetwork(f, "b")];
    await f.ctx.db.execute(sql`delete from networks where name in ('a', 'b')`);
    return vnis;
  });
  await migrate(f.databaseUrl);
  expect(await addNetwork(f, "c")).toBeGreaterThan(Math.max(...lost) + 900_000);
  // After the last VNI, the first ones follow.
  await f.ctx.db.execute(sql`select setval('network_vnis', 16777000)`);
  await migrate(f.databaseUrl, { isRestored: true });
  expect(await addNetwork(f, "d")).toBeLessThan(1_100_000);
});

test("a migration of any other database skips no address and no VNI", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  const vni = await addNetwork(f, "net");
  expect(await addSets(f, "one", 1)).toEqual(["10.1.0.2"]);
  await migrate(f.databaseUrl);
  expect(await addSets(f, "two", 1)).toEqual(["10.1.0.3"]);
  expect(await addNetwork(f, "next")).toBe(vni + 1);
});
