import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover, type Mover } from "../../../src/control/operations/move-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

/** Moves and drains respect the spread of the sets that remain afterwards. */

const start = fleetPerTest();

interface Spread {
  f: FleetContext;
  mover: Mover;
  /** The host ids by name: a1 in zone a, and so on. */
  ids: Record<string, string>;
}

/**
 * Three zones with one set of a service each, on a1, b1 and c1. The empty host a2 is in zone a. A
 * placement that only packs prefers b1, because it is the fullest host.
 */
async function startSpread(more: Parameters<typeof serviceBody>[1] = {}): Promise<Spread> {
  const f = await start();
  const ids: Record<string, string> = {};
  const small = { ...smallHost, cpuMillis: 3_500 };
  const enroll = async (name: string, allocatable = smallHost) => {
    ids[name] = await f.enroll(name, { zone: `zone-${name.slice(0, 1)}`, allocatable });
  };
  for (const name of ["a1", "b1", "c1"]) await enroll(name, name === "b1" ? small : smallHost);
  const placement = { spread: [{ by: "zone" as const, maxSkew: 1 }] };
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3, placement, ...more }));
  await f.placer.placeSets();
  for (const id of Object.values(ids)) await obeyOrders(f, id);
  await enroll("a2");
  return { f, mover: createMover(f.ctx), ids };
}

const hostNames = async (f: FleetContext) =>
  (await listLiveSets(f)).map(({ host }) => host ?? "").sort();

test("the replacement of a set goes to its zone, which its removal would leave without one", async () => {
  const { f, mover, ids } = await startSpread();
  await drainHost(f.ctx, ids["a1"] ?? "");
  expect(await mover.moveSets()).toBe(1);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  expect(await hostNames(f)).toEqual(["a1", "a2", "b1", "c1"]);
});

test("a set that stops first claims a host in its zone", async () => {
  const { f, mover, ids } = await startSpread({ disruption: { maxSurge: 0, maxUnavailable: 1 } });
  await drainHost(f.ctx, ids["a1"] ?? "");
  expect(await mover.moveSets()).toBe(1);
  const claims = await queryRows<{ host: string }>(
    f.ctx.db,
    sql`select h.name as host from claims c join hosts h on h.id = c.host_id`,
  );
  expect(claims).toEqual([{ host: "a2" }]);
  await obeyOrders(f, ids["a1"] ?? "");
  await mover.moveSets();
  expect(await hostNames(f)).toEqual(["a2", "b1", "c1"]);
});

test("sets that are added during a drain count a set and its replacement once", async () => {
  const { f, mover, ids } = await startSpread();
  await drainHost(f.ctx, ids["a1"] ?? "");
  await mover.moveSets();
  await f.placer.placeSets();
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 6 }, undefined);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 3 });
  await obeyOrders(f, ids["a2"] ?? "");
  await mover.moveSets();
  await obeyOrders(f, ids["a1"] ?? "");
  expect(await hostNames(f)).toEqual(["a2", "a2", "b1", "b1", "c1", "c1"]);
});

test("sets that are added before the replaced set is absent count only its replacement", async () => {
  const { f, mover, ids } = await startSpread();
  await drainHost(f.ctx, ids["a1"] ?? "");
  await mover.moveSets();
  await f.placer.placeSets();
  await obeyOrders(f, ids["a2"] ?? "");
  await mover.moveSets(); // the replacement is ready, and the agent of a1 does not respond
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 6 }, undefined);
  expect(await f.placer.placeSets()).toMatchObject({ placed: 3 });
  await obeyOrders(f, ids["a1"] ?? "");
  expect(await hostNames(f)).toEqual(["a2", "a2", "b1", "b1", "c1", "c1"]);
});
