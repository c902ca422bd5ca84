import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import type { ChangedDemand } from "../../db/queries/autoscaling/demands.ts";
import { nameAlert } from "../../scheduler/autoscaling/name-alert.ts";

type DemandEventKind = Extract<EmittedEvent["kind"], `demand-${string}`>;

/** One event for each demand that changed. */
export function demandEvents(
  kind: DemandEventKind,
  demands: readonly ChangedDemand[],
): EmittedEvent[] {
  return demands.map((demand) => ({
    kind,
    tenantId: demand.tenantId,
    serviceId: demand.serviceId,
    data: {
      alert: nameAlert(demand),
      hook: demand.hook,
      wantedReplicas: demand.wantedReplicas,
      demandId: demand.id,
    },
  }));
}
