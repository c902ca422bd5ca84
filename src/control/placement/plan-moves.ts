import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { explainRejection } from "../../scheduler/placement/explain.ts";
import { planPlacements } from "../../scheduler/placement/plan.ts";
import type { FleetCache } from "./fleet-cache.ts";
import { requestsOfService } from "./placement-requests.ts";

/** A set that leaves its host, and the template that it has on the next one. */
export interface WantedMove {
  setId: string;
  hostId: string;
  template: SetTemplate;
}

/**
 * Plans these sets in addition to all bookings, and none on the host that it leaves. It commits
 * nothing: the placer plans again. Returns an explanation for each set that no host takes.
 * @param cache the fleet in memory; its callers plan one after the other
 */
export async function planMoves(
  tx: Queryable,
  service: ServiceRow,
  moves: readonly WantedMove[],
  cache: FleetCache,
): Promise<Map<string, string>> {
  if (moves.length === 0) return new Map();
  const { fleet, policy, nowMs } = await cache.refresh(tx);
  const requests = await requestsOfService(
    tx,
    service,
    moves.map(({ setId, hostId, template }) => ({
      // The id of a placed set would make the planner ignore the request: here it is one more set.
      setId: `${setId}-moved`,
      template,
      avoidHostIds: [hostId],
    })),
  );
  const { rejections } = planPlacements(fleet, requests, { seed: policy.version, nowMs });
  return new Map(
    rejections.map((rejection) => [
      rejection.setId.slice(0, -"-moved".length),
      explainRejection(rejection),
    ]),
  );
}
