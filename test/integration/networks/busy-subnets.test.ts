import { type SQL, sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { storeAddressReport } from "../../../src/control/networks/claim-unknown-addresses.ts";
import { endQuarantines } from "../../../src/control/networks/end-quarantines.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { restoreVolume } from "../../../src/control/volumes/restore-volume.ts";
import { dropAddressesOutside } from "../../../src/db/queries/networks/addresses.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { newId } from "../../../src/lib/ids.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { waitForLockWait } from "../../support/fleet/lock-waits.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";
import {
  enrollNetworked,
  findAddressFaults,
  listAddresses,
  setFeatures,
} from "../../support/fleet/network-hosts.ts";
import { trashed, volumeOf } from "../../support/fleet/trashed-volume.ts";

/** A tenant can hold the locks of its subnets, such as by a change in a process that hangs. */
const start = fleetPerTest();
const allocatable = { ...smallHost, volumeBytes: 2 ** 40 };

async function addNetwork(f: FleetContext, name: string, cidr: string): Promise<void> {
  const body = createNetworkBody.parse({ name, subnets: [{ cidr }] });
  await createNetwork(f.ctx, f.tenantId, body);
}

function bodyOf(name: string, network: string, replicas = 1) {
  const { template, ...service } = serviceBody(name, { replicas });
  return { ...service, template: { ...template, networks: [{ network }] } };
}

/** Runs `work` while another transaction has the locks that a change of the network takes. */
function whileLocked<T>(f: FleetContext, network: string, work: () => Promise<T>): Promise<T> {
  return withTx(f.ctx.db, async (tx) => {
    await tx.execute(
      sql`select 1 from subnets where network_id = (select id from networks where name = ${network})
          order by id for no key update`,
    );
    return work();
  });
}

const planNow = (f: FleetContext) =>
  f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);

test("I15: sets are placed while a subnet of other sets is locked, and those follow later", async () => {
  const f = await start();
  await enrollNetworked(f, "h1");
  await addNetwork(f, "busy", "10.1.0.0/24");
  await addNetwork(f, "other", "10.2.0.0/24");
  await createService(f.ctx, f.tenantId, bodyOf("stuck", "busy", 2));
  await createService(f.ctx, f.tenantId, bodyOf("web", "other", 2));
  const outcome = await whileLocked(f, "busy", () => f.placer.placeSets());
  expect(outcome).toMatchObject({ placed: 2, rejected: 0 });
  expect(outcome.conflicts).toBeGreaterThan(0);
  expect((await listAddresses(f)).map(({ network }) => network)).toEqual(["other", "other"]);
  await planNow(f);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 2, conflicts: 0 });
  expect(await findAddressFaults(f)).toEqual([]);
});

test("I15: the mover does not wait for a locked subnet", async () => {
  const f = await start();
  const h1 = await enrollNetworked(f, "h1");
  await addNetwork(f, "busy", "10.1.0.0/24");
  await createService(f.ctx, f.tenantId, bodyOf("web", "busy"));
  await f.placer.placeSets();
  await enrollNetworked(f, "h2");
  await obeyOrders(f, h1);
  const [set] = await listLiveSets(f);
  await controlSet(f.ctx, f.tenantId, set?.id ?? "", "stop");
  await obeyOrders(f, h1);
  const mover = createMover(f.ctx);
  await drainHost(f.ctx, h1);
  await mover.moveSets();
  await obeyOrders(f, h1);
  await whileLocked(f, "busy", () => mover.moveSets());
  expect((await listLiveSets(f))[0]).toMatchObject({ id: set?.id, host: null });
  await planNow(f);
  await f.placer.placeSets();
  expect((await listLiveSets(f))[0]).toMatchObject({ id: set?.id, host: "h2" });
  expect(await findAddressFaults(f)).toEqual([]);
});

test("a restore says to retry it while the subnet is locked", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1", { allocatable });
  await addNetwork(f, "busy", "10.1.0.0/24");
  const { template, ...service } = bodyOf("db", "busy", 0);
  const volume = { sizeBytes: 2 ** 30, mountPath: "/data" };
  await createService(f.ctx, f.tenantId, {
    ...service,
    replicas: 0,
    template: { ...template, volume },
  });
  const trash = volumeOf(newId("set"), trashed);
  const { volumeId } = trash;
  await f.sync(hostId, { volumes: [trash] });
  await whileLocked(f, "busy", () =>
    expect(restoreVolume(f.ctx, null, volumeId)).rejects.toMatchObject({ code: "overloaded" }),
  );
  await restoreVolume(f.ctx, null, volumeId);
  expect(await listAddresses(f)).toMatchObject([{ address: "10.1.0.2", state: "assigned" }]);
});

test("a change of a subnet compares each address once, whatever the number of its ranges", async () => {
  const f = await start();
  await addNetwork(f, "net", "10.1.0.0/16");
  await f.ctx.db.execute(
    sql`insert into addresses (subnet_id, address, set_id, network_index, mac)
        select id, '10.1.0.0'::inet + n, 'set_' || n, 0, '' from subnets, generate_series(2, 20000) n`,
  );
  await f.ctx.db.execute(sql`update subnets set unavailable = 19999`);
  const [subnet] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from subnets`);
  const one = [[2, 65_534]] as const;
  // Addresses are in the last of the ranges.
  const many = [
    ...Array.from({ length: 271 }, (_, n) => [2 ** 20 + 2 * n, 2 ** 20 + 2 * n] as const),
    ...one,
  ];
  const measure = async (ranges: readonly (readonly [number, number])[]) => {
    const times: number[] = [];
    for (let round = 0; round < 3; round++) {
      const startMs = performance.now();
      expect(await dropAddressesOutside(f.ctx.db, subnet?.id ?? "", ranges)).toBeUndefined();
      times.push(performance.now() - startMs);
    }
    return Math.min(...times);
  };
  const referenceMs = await measure(one);
  expect(await measure(many)).toBeLessThan(4 * referenceMs);
  expect(await dropAddressesOutside(f.ctx.db, subnet?.id ?? "", [[2, 18_999]])).toEqual({
    address: "10.1.74.56",
    setId: "set_19000",
    service: null,
  });
  expect(await dropAddressesOutside(f.ctx.db, subnet?.id ?? "", [])).toMatchObject({
    setId: "set_2",
  });
});

test("a locked subnet does not keep the addresses of others in quarantine", async () => {
  const f = await start();
  for (const name of ["a", "b", "c"]) await addNetwork(f, name, "10.1.0.0/20");
  const subnets = await queryRows<{ id: string; name: string }>(
    f.ctx.db,
    sql`select b.id, n.name from subnets b join networks n on n.id = b.network_id order by b.id`,
  );
  const [first] = subnets;
  // The sweep visits subnets by id. The first one alone has more addresses than its rounds delete.
  await f.ctx.db.execute(
    sql`insert into addresses (subnet_id, address, set_id, network_index, mac, state, quarantined_at)
        select id, '10.1.0.0'::inet + n, 'set_' || n, 0, '', 'quarantined', now() - interval '1 h'
        from subnets, generate_series(2, case id when ${first?.id} then 4001 else 31 end) n`,
  );
  await f.ctx.db.execute(
    sql`update subnets s set unavailable = (select count(*) from addresses where subnet_id = s.id)`,
  );
  const read = () =>
    queryRows<{ id: string }>(
      f.ctx.db,
      sql`select id from subnets where unavailable > 0 order by id`,
    );
  const released = await whileLocked(f, first?.name ?? "", () =>
    endQuarantines(f.ctx, undefined, { perRoundMax: 100 }),
  );
  expect(released).toBe(60);
  expect((await read()).map(({ id }) => id)).toEqual([first?.id]);
  expect(await endQuarantines(f.ctx, undefined, { perRoundMax: 1_500 })).toBe(4_000);
  expect(await read()).toEqual([]);
});

test("I15: the claim of addresses of unknown sets waits for a locked subnet without its host", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1");
  await setFeatures(f, hostId, ["networks", "attachments", "address-reports"]);
  await addNetwork(f, "busy", "10.1.0.0/24");
  const [network] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from networks`);
  await f.ctx.db.execute(sql`update hosts set addresses_unknown_since = now()`);
  const mac = "0a:00:0a:01:00:09";
  const networks = [{ networkId: network?.id ?? "", mac, addresses: ["10.1.0.9"] }];
  const reported = [{ setId: newId("set"), networks }];
  let claim: Promise<void> | undefined;
  await whileLocked(f, "busy", async () => {
    claim = storeAddressReport(f.ctx, hostId, reported);
    await waitForLockWait(f.ctx.db, "the claim waits for the subnet");
    await f.ctx.db.execute(sql`select 1 from hosts where id = ${hostId} for no key update nowait`);
  });
  await claim;
  expect(await listAddresses(f)).toMatchObject([{ address: "10.1.0.9", state: "assigned" }]);
});

test("a claim that waited for a locked subnet obeys the request as it is then", async () => {
  const f = await start();
  const hostId = await enrollNetworked(f, "h1");
  await setFeatures(f, hostId, ["networks", "attachments", "address-reports"]);
  await addNetwork(f, "busy", "10.1.0.0/24");
  const [network] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from networks`);
  const mac = "0a:00:0a:01:00:09";
  const networks = [{ networkId: network?.id ?? "", mac, addresses: ["10.1.0.9"] }];
  const claimBeside = async (change: SQL): Promise<void> => {
    await f.ctx.db.execute(
      sql`update hosts set addresses_unknown_since = now(), addresses_awaited_since = null`,
    );
    let claim: Promise<void> | undefined;
    await whileLocked(f, "busy", async () => {
      claim = storeAddressReport(f.ctx, hostId, [{ setId: newId("set"), networks }]);
      await waitForLockWait(f.ctx.db, "the claim waits for the subnet");
      await f.ctx.db.execute(change);
    });
    await claim;
  };
  // Another report ended the request.
  await claimBeside(sql`update hosts set addresses_unknown_since = null`);
  expect(await listAddresses(f)).toEqual([]);
  // The new request is not that of a restore, and the host has no set of the network.
  await claimBeside(sql`update hosts set addresses_awaited_since = now()`);
  expect(await listAddresses(f)).toEqual([]);
});
