import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { migrate } from "../../../src/db/migrate.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import {
  enrollNetworked,
  findAddressFaults,
  listAddresses,
} from "../../support/fleet/network-hosts.ts";

/**
 * After a restore, the database lacks the newest sets and networks. Agents still run these sets
 * with their addresses, so the next ones must be different.
 */
const start = fleetPerTest();
const FORMER_XID = "500000000";
const largeHost = { ...smallHost, cpuMillis: 64_000, memoryBytes: 2 ** 38 };

async function addNetwork(f: FleetContext, name: string, pools?: string[]): Promise<number> {
  const body = createNetworkBody.parse({ name, subnets: [{ cidr: "10.1.0.0/16", pools }] });
  return (await createNetwork(f.ctx, f.tenantId, body)).vni;
}

async function addSets(f: FleetContext, service: string, replicas: number): Promise<string[]> {
  const known = new Set((await listAddresses(f)).map(({ address }) => address));
  const { template, ...body } = serviceBody(service, { replicas });
  const networks = [{ network: "net" }];
  await createService(f.ctx, f.tenantId, { ...body, template: { ...template, networks } });
  expect(await f.placer.placeSets()).toMatchObject({ placed: replicas });
  const addresses = (await listAddresses(f)).map(({ address }) => address);
  return addresses.filter((address) => !known.has(address));
}

/** Runs `work`, and then restores a backup from before it. Its rows have ids of another server. */
async function loseMinutes<T>(f: FleetContext, isOtherServer: boolean, work: () => Promise<T>) {
  const { db } = f.ctx;
  const before = await queryRows<{ setId: string }>(
    db,
    sql`select set_id as "setId" from addresses`,
  );
  const positions = await queryRows(db, sql`select id, last_offset from subnets`);
  const [vnis] = await queryRows<{ last: number }>(
    db,
    sql`select last_value::int as last from network_vnis`,
  );
  const lost = await work();
  const idsBefore = JSON.stringify(before.map(({ setId }) => setId));
  await db.execute(sql`delete from addresses where not ${idsBefore}::jsonb ? set_id`);
  await db.execute(
    sql`delete from sets where host_id is not null and not ${idsBefore}::jsonb ? id`,
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
