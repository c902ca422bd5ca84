import type { EventInput } from "../../db/queries/events/write-events.ts";
import type { ChangedDemand } from "../../db/queries/autoscaling/demands.ts";
import { nameAlert } from "../../scheduler/autoscaling/decide-replicas.ts";

const endings = {
  "demand-raised": (wanted: number) => `wants ${wanted} sets`,
  "demand-resolved": (wanted: number) =>
    `is over; its ${wanted} sets are held for the stabilisation time`,
  "demand-released": (wanted: number) => `holds its ${wanted} sets no longer`,
} as const;

/** One event for each demand that changed. */
export function demandEvents(
  kind: keyof typeof endings,
  demands: readonly ChangedDemand[],
): EventInput[] {
  return demands.map((demand) => ({
    kind,
    text: `${nameAlert(demand)} on hook ${demand.hook} ${endings[kind](demand.wantedReplicas)}`,
    tenantId: demand.tenantId,
    serviceId: demand.serviceId,
    data: { demandId: demand.id, wantedReplicas: demand.wantedReplicas },
  }));
}
