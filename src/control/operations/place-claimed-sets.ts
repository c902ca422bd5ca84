import { endClaims, planSetsNow } from "../../db/queries/operations/claims.ts";
import { readPendingSets } from "../../db/queries/placement/due-sets.ts";
import { lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import { commitPlacements } from "../../db/queries/placement/placements.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import { newId } from "../../lib/ids.ts";
import { admitOnHost } from "../../scheduler/placement/admit-on-host.ts";
import { chooseForPlacements, storeChosen } from "../placement/choose-for-placements.ts";
import type { FleetCache } from "../placement/fleet-cache.ts";
import { reserveIfFits } from "../placement/growth.ts";
import { toHostSnapshot } from "../placement/host-snapshot.ts";
import { buildPlacementRequests } from "../placement/placement-requests.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { ensureDefaultNetworks } from "../networks/default-network.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Places sets that have left their previous host on the host of their claims, and ends those
 * claims. If a rule of the planner no longer permits the host for a set, the set is immediately due
 * for the placer. It also ends the claims of sets that are removed or placed elsewhere.
 *
 * Logs an error: the next round of the mover retries the host.
 */
export async function placeClaimedSets(
  ctx: ControlContext,
  cache: FleetCache,
  hostId: string,
): Promise<void> {
  try {
    await cache.load(ctx.db); // again after a refresh that failed halfway
    await unitOfWork(ctx, (tx) => placeOnHost(tx, ctx, hostId, cache));
  } catch (error) {
    ctx.log.warn({ err: error, hostId }, "cannot end the claims of the host");
  }
}

async function placeOnHost(
  tx: UnitOfWork,
  ctx: ControlContext,
  hostId: string,
  cache: FleetCache,
): Promise<void> {
  await lockHosts(tx, [hostId]);
  // Before the first write, so that a rollback takes back nothing that is in the fleet.
  const { fleet, policy, nowMs } = await cache.refresh(tx);
  const sets = await endClaims(tx, hostId);
  if (sets.length === 0) return;
  const setIds = sets.map(({ id }) => id);
  const due = await ensureDefaultNetworks(tx, ctx, await readPendingSets(tx, setIds));
  const requests = await buildPlacementRequests(tx, due);
  const [row] = await lockFleetHosts(tx, [hostId]);
  if (!row) return;
  fleet.removeClaims(setIds);
  const admitted = admitOnHost(fleet, hostId, requests, { nowMs });
  const host = toHostSnapshot(row, cache.ignoredSelfTests);
  const generations = new Map(sets.map(({ id, generation }) => [id, generation]));
  const inputs = requests.flatMap(({ setId, resources, overhead }) => {
    const generation = generations.get(setId);
    const isFitting =
      admitted.has(setId) &&
      host.readiness === "ready" &&
      reserveIfFits(host, policy, resources).ok;
    if (!isFitting || generation === undefined) return [];
    const why = { score: 0, because: { claim: 1 } };
    return { placementId: newId("plc"), setId, hostId, generation, overhead, ...why };
  });
  const { placements, chosen } = await chooseForPlacements(tx, inputs, {
    requests: new Map(requests.map((request) => [request.setId, request])),
    hosts: new Map([[hostId, host]]),
    range: ctx.settings.hostPortRange,
  });
  const placed = await commitPlacements(tx, placements, policy.version);
  await storeChosen(tx, chosen);
  for (const { setId, serviceId } of placed) tx.signal(`set:${setId}`, `service:${serviceId}`);
  if (placed.length > 0) tx.signal(`host:${hostId}`, "events");
  const placedIds = new Set(placed.map(({ setId }) => setId));
  const remaining = sets.flatMap(({ id }) => (placedIds.has(id) ? [] : id));
  if (remaining.length === 0) return;
  await planSetsNow(tx, remaining);
  const jobId = `place:${hostId}:at${Date.now()}`;
  tx.enqueue({ name: "place-sets", jobId, payload: { cause: "set-moved" } });
}
