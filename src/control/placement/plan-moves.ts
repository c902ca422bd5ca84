import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listSubnetsOfSets } from "../../db/queries/networks/assign-addresses.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { explainRejection } from "../../scheduler/placement/explain.ts";
import { planPlacements } from "../../scheduler/placement/plan.ts";
import type { FleetCache } from "./fleet-cache.ts";
import { buildServiceRequests } from "./placement-requests.ts";

const MOVED = "-moved";

/** A departing set, with its template on the next host. */
export interface WantedMove {
  setId: string;
  hostId: string;
  template: SetTemplate;
  /** The set itself moves, with its addresses. Otherwise a replacement needs others. */
  isSameSet: boolean;
  /** The host that it leaves may take it again, as for an update. */
  mayStay?: boolean;
}

/** The hosts for sets that move, and an explanation for each set that no host takes. */
export interface PlannedMoves {
  hostIds: Map<string, string>;
  rejections: Map<string, string>;
}

/**
 * Plans these sets in addition to all bookings, and none on the host that it leaves unless it may
 * stay. Spread counts each set on its next host. It commits nothing.
 * @param cache the fleet in memory; its callers plan one after the other
 */
export async function planMoves(
  tx: Queryable,
  service: ServiceRow,
  moves: readonly WantedMove[],
  cache: FleetCache,
): Promise<PlannedMoves> {
  if (moves.length === 0) return { hostIds: new Map(), rejections: new Map() };
  const { fleet, policy, nowMs } = await cache.refresh(tx);
  const ownSubnets = await listSubnetsOfSets(
    tx,
    moves.flatMap(({ setId, isSameSet }) => (isSameSet ? setId : [])),
  );
  const requests = await buildServiceRequests(
    tx,
    service,
    moves.map(({ setId, hostId, template, mayStay = false }) => ({
      // With the id of a placed set, the planner would not count it as one more set.
      setId: `${setId}${MOVED}`,
      template,
      avoidHostIds: mayStay ? [] : [hostId],
      replacesOnHostId: hostId,
      ownSubnetIds: ownSubnets.get(setId),
    })),
  );
  const plan = planPlacements(fleet, requests, { seed: policy.version, nowMs });
  const toSetId = (setId: string) => setId.slice(0, -MOVED.length);
  return {
    hostIds: new Map(plan.placements.map(({ setId, hostId }) => [toSetId(setId), hostId])),
    rejections: new Map(
      plan.rejections.map((rejection) => [toSetId(rejection.setId), explainRejection(rejection)]),
    ),
  };
}
