import type { EventInput } from "../../db/queries/events/write-events.ts";
import type { ChangedDemand } from "../../db/queries/autoscaling/demands.ts";
import { nameAlert } from "../../scheduler/autoscaling/name-alert.ts";

const endings = {
  "demand-raised": (wanted: number) => `wants ${wanted} sets`,
  "demand-resolved": (wanted: number) =>
    `resolved; Berth holds its ${wanted} sets for the stabilization time`,
  "demand-released": (wanted: number) => `no longer holds ${wanted} sets`,
  "demand-stale": (wanted: number) =>
    `no longer holds ${wanted} sets: no delivery mentioned it for the rule's holdMaxSeconds`,
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
