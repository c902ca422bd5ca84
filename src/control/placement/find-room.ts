import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { explainRejection } from "../../scheduler/placement/explain.ts";
import { planPlacements } from "../../scheduler/placement/plan.ts";
import type { ControlContext } from "../runtime/context.ts";
import { FleetCache } from "./fleet-cache.ts";
import { requestsOfService } from "./placement-requests.ts";

/** A set that is to leave a host, as it is to be elsewhere. */
export interface WantedMove {
  setId: string;
  hostId: string | null;
  template: SetTemplate;
}

/**
 * Whether the planner finds a host for each of these, beside all that is booked now, and none on the host that it is to leave.
 * Nothing is committed: placing them asks again. Undefined when it does, else why not.
 * @param cache kept by whoever plans often, one plan at a time
 */
export async function planMoves(
  ctx: ControlContext,
  tx: Queryable,
  service: ServiceRow,
  moves: readonly WantedMove[],
  cache = new FleetCache({ reportAgeMaxMs: ctx.settings.reportAgeMaxMs }),
): Promise<string | undefined> {
  const [{ fleet, policy, nowMs }, requests] = [
    await cache.refresh(tx),
    await requestsOfService(
      tx,
      service,
      moves.map(({ setId, hostId, template }) => ({
        // No id of a set that is placed: to the planner it is one more.
        setId: `${setId}-moved`,
        template,
        avoidHostIds: hostId === null ? [] : [hostId],
      })),
    ),
  ];
  const { rejections } = planPlacements(fleet, requests, { seed: policy.version, nowMs });
  return rejections[0] && explainRejection(rejections[0]);
}
