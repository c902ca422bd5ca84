import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import type { SetAddresses } from "../../../src/contracts/agent-protocol/address-report.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { migrate } from "../../../src/db/migrate.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { newId } from "../../../src/lib/ids.ts";
import { type FleetContext, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { syncOf } from "../../support/fleet/network-hosts.ts";
import {
  enrollPublishing,
  findHostPortFaults,
  listHostPorts,
  publishingBody,
} from "../../support/fleet/port-hosts.ts";

/** After a restore, agents still run sets that the database lacks, with their host ports. */
const start = fleetPerTest();
const largeHost = { ...smallHost, cpuMillis: 64_000, memoryBytes: 2 ** 38 };

const enroll = (f: FleetContext, name: string) =>
  enrollPublishing(f, name, { allocatable: largeHost }, ["address-reports"]);

/** The host ports of the sets of a host, as an agent reports them. */
async function readOwnPorts(f: FleetContext, hostId: string): Promise<SetAddresses[]> {
  const { sets } = await f.sync(hostId, { full: true });
  return sets.map(({ setId, hostPorts = [] }) => ({
    setId,
    networks: [],
    hostPorts: hostPorts.map(({ protocol, hostPort }) => ({ protocol, port: hostPort })),
  }));
}

const placeAgain = async (f: FleetContext) => {
  await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
  return f.placer.placeSets();
};

const portsOf = async (f: FleetContext, isUnknown: boolean) =>
  (await listHostPorts(f)).filter(({ name }) => (name === null) === isUnknown);

test("I19: after a restore, no set gets a host port that an unknown set of the host has", async () => {
  const f = await start({ hostPortRange: { first: 20_000, last: 20_007 } });
  const hostId = await enroll(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("fixed", [{ hostPort: 8_080 }]));
  await createService(f.ctx, f.tenantId, publishingBody("lost", [true], 3));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 4 });
  const lost = (await listHostPorts(f)).map(({ port }) => port);
  const addresses = await readOwnPorts(f, hostId);
  await f.ctx.db.execute(sql`delete from sets`);
  await f.ctx.db.execute(sql`delete from host_ports`);
  await f.ctx.db.execute(sql`update services set desired_replicas = 0, replicas = 0`);
  await migrate(f.databaseUrl, { isRestored: true });

  expect(await syncOf(f, hostId, { full: true })).toMatchObject({ sendAddresses: true });
  await syncOf(f, hostId, { full: true, addresses });
  expect((await portsOf(f, true)).map(({ port }) => port)).toEqual(lost);
  await createService(f.ctx, f.tenantId, publishingBody("next", [true], 5));
  await createService(f.ctx, f.tenantId, publishingBody("waiting", [{ hostPort: 8_080 }]));
  expect(await placeAgain(f)).toMatchObject({ placed: 5, rejected: 1 });
  const next = (await portsOf(f, false)).map(({ port }) => port);
  expect([...next, ...lost].toSorted((a, b) => a - b)).toEqual([
    8_080, 20_000, 20_001, 20_002, 20_003, 20_004, 20_005, 20_006, 20_007,
  ]);
  expect(await findHostPortFaults(f)).toEqual([]);

  // They are free again when the host no longer reports the sets.
  await f.sync(hostId, { full: true, unlistedSets: [] });
  expect(await portsOf(f, true)).toEqual([]);
  expect(await placeAgain(f)).toMatchObject({ placed: 1 });
  expect(await findHostPortFaults(f)).toEqual([]);
});

test("ending a booking frees ports on its own host only", async () => {
  const f = await start();
  const former = await enroll(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("web", [true]));
  await f.placer.placeSets();
  const hostId = await enroll(f, "h2");
  const [moved] = await readOwnPorts(f, former);
  const setId = moved?.setId ?? "";
  await f.ctx.db.execute(sql`update hosts set state = 'lost' where id = ${former}`);
  await migrate(f.databaseUrl, { isRestored: true });
  const ports = { setId, networks: [], hostPorts: [{ protocol: "tcp" as const, port: 20_001 }] };
  await syncOf(f, hostId, { addresses: [ports] });
  const claim = { host: "h2", protocol: "tcp", port: 20_001, setId, name: null };
  expect(await portsOf(f, true)).toEqual([claim]);
  await f.ctx.db.execute(
    sql`update sets set host_id = null, state = 'pending' where id = ${setId}`,
  );
  expect(await listHostPorts(f)).toEqual([claim]);
});

test("a host claims ports only for sets that no live host has, and within bounds", async () => {
  const f = await start();
  const hostId = await enroll(f, "h1");
  await createService(f.ctx, f.tenantId, publishingBody("web", [{ hostPort: 8_080 }]));
  await f.placer.placeSets();
  const [live] = await readOwnPorts(f, hostId);
  const other = await enroll(f, "h2");
  await migrate(f.databaseUrl, { isRestored: true });
  const request = () => f.ctx.db.execute(sql`update hosts set addresses_unknown_since = now()`);
  const claim = (setId: string, ...ports: number[]) => ({
    setId,
    networks: [],
    hostPorts: ports.map((port) => ({ protocol: "tcp" as const, port })),
  });
  await syncOf(f, other, { addresses: [claim(live?.setId ?? "", 9_000)] });
  // Only one of both sets can bind the port.
  await syncOf(f, hostId, { addresses: [claim(newId("set"), 8_080)] });
  expect(await portsOf(f, true)).toEqual([]);
  await request();
  const eight = Array.from({ length: 8 }, (_, place) => place);
  const many = Array.from({ length: 600 }, (_, place) =>
    claim(newId("set"), ...eight.map((port) => 10_000 + place * 8 + port)),
  );
  for (const addresses of [many.slice(0, 400), many]) {
    await request();
    await syncOf(f, hostId, { addresses });
  }
  const [row] = await queryRows<{ sets: number; ports: number }>(
    f.ctx.db,
    sql`select count(distinct set_id)::int as sets, count(*)::int as ports from host_ports where name is null`,
  );
  expect(row).toEqual({ sets: 500, ports: 4_000 });
  for (const first of [10_000, 20_000]) {
    await request();
    await syncOf(f, other, {
      addresses: Array.from({ length: 1_100 }, (_, place) => claim(newId("set"), first + place)),
    });
  }
  const ofOther = (await portsOf(f, true)).filter(({ host }) => host === "h2");
  expect(ofOther).toHaveLength(1_000);
  expect(await findHostPortFaults(f)).toEqual([]);
});
