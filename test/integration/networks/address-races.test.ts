import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { createNetworkBody } from "../../../src/contracts/api/networks.ts";
import { createNetwork } from "../../../src/control/networks/create-network.ts";
import { chooseAddressesOfPlacements } from "../../../src/control/networks/choose-addresses.ts";
import { endQuarantines } from "../../../src/control/networks/end-quarantines.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteSet } from "../../../src/control/sets/delete-set.ts";
import { listTemplateNetworks } from "../../../src/db/queries/networks/template-networks.ts";
import { insertAddresses } from "../../../src/db/queries/networks/assign-addresses.ts";
import { commitPlacements } from "../../../src/db/queries/placement/placements.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { lockHosts } from "../../../src/db/queries/sets/write-sets.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { newId } from "../../../src/lib/ids.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obeyOrders } from "../../support/fleet/live-sets.ts";
import {
  enrollNetworked,
  findAddressFaults,
  listAddresses,
} from "../../support/fleet/network-hosts.ts";

const start = fleetPerTest();
const ATTEMPTS_MAX = 1_000;
const largeHost = { ...smallHost, cpuMillis: 64_000, memoryBytes: 2 ** 38 };

async function addNetwork(f: FleetContext, cidr: string): Promise<void> {
  const body = createNetworkBody.parse({ name: "net", subnets: [{ cidr }] });
  await createNetwork(f.ctx, f.tenantId, body);
}

function body(replicas: number) {
  const { template, ...service } = serviceBody("web", { replicas });
  return { ...service, template: { ...template, networks: [{ network: "net" }] } };
}

/**
 * Places one pending set on a host as the mover and a restore do: without the placement lock, and
 * at the same time as others. Returns whether an address was free. It tries again while others have
 * locked the subnet.
 */
async function placeOn(f: FleetContext, setId: string, hostId: string): Promise<boolean> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const outcome = await tryToPlaceOn(f, setId, hostId);
    if (outcome !== "contended") return outcome === "placed";
  }
  throw new Error("the subnet is always locked");
}

async function tryToPlaceOn(
  f: FleetContext,
  setId: string,
  hostId: string,
): Promise<"placed" | "refused" | "contended"> {
  return withTx(f.ctx.db, async (tx) => {
    await lockHosts(tx, [hostId]);
    const templateNetworks = await listTemplateNetworks(
      tx,
      { tenantId: f.tenantId, serviceId: "" },
      [{ network: "net" }],
    );
    const placement = {
      placementId: newId("plc"),
      setId,
      hostId,
      generation: 1,
      overhead: { memoryBytes: 0, rootfsBytes: 0 },
      score: 0,
      because: {},
    };
    const { placements, addresses } = await chooseAddressesOfPlacements(
      tx,
      [placement],
      new Map([[setId, { templateNetworks }]]),
      new Map([[hostId, { features: ["networks"] }]]),
    );
    await commitPlacements(tx, placements, 1);
    await insertAddresses(tx, addresses.chosen, addresses.cursors);
    if (placements.length === 1) return "placed";
    return addresses.isContended ? "contended" : "refused";
  });
}

test("concurrent placements get different addresses, up to the last one", async () => {
  const f = await start();
  const hostIds = await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      enrollNetworked(f, `h${index}`, { allocatable: largeHost }),
    ),
  );
  await addNetwork(f, "10.1.0.0/27");
  await createService(f.ctx, f.tenantId, body(40));
  const sets = await queryRows<{ id: string }>(f.ctx.db, sql`select id from sets order by id`);
  const placed = await Promise.all(
    sets.map(({ id }, index) => placeOn(f, id, hostIds[index % hostIds.length] ?? "")),
  );
  // The network, the broadcast address and the gateway are not usable.
  expect(placed.filter(Boolean)).toHaveLength(29);
  const addresses = await listAddresses(f);
  expect(new Set(addresses.map(({ address }) => address)).size).toBe(29);
  expect(await findAddressFaults(f)).toEqual([]);
});

test("job workers, removals and expiring quarantines together never give an address twice", async () => {
  const f = await start();
  const hostIds = [];
  for (const name of ["h1", "h2", "h3"])
    hostIds.push(await enrollNetworked(f, name, { allocatable: largeHost }));
  await addNetwork(f, "10.1.0.0/27");
  await createService(f.ctx, f.tenantId, body(34));
  const others = [f.secondContext(), f.secondContext()];
  const placers = [f.placer, ...others.map((ctx) => createPlacer(ctx))];
  const holders = new Map<string, string>();
  for (let round = 0; round < 12; round++) {
    await f.ctx.db.execute(sql`update sets set plan_after = now() where host_id is null`);
    const running = await queryRows<{ id: string }>(
      f.ctx.db,
      sql`select id from sets where host_id is not null and desired = 'running' order by random() limit 6`,
    );
    await Promise.all([
      ...placers.map((placer) => placer.placeSets()),
      ...running.map(({ id }) => deleteSet(f.ctx, f.tenantId, id)),
      ...hostIds.map((hostId) => obeyOrders(f, hostId)),
      endQuarantines(f.ctx, undefined, { seconds: 0 }),
    ]);
    await f.placer.placeSets();
    expect(await findAddressFaults(f)).toEqual([]);
    for (const { address, setId, state } of await listAddresses(f))
      if (state === "assigned") holders.set(`${address} ${setId}`, setId ?? "");
  }
  // The load has used addresses again for other sets.
  expect(holders.size).toBeGreaterThan(29 + 12);
});
