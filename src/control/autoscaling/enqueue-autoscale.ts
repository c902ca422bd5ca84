import type { UnitOfWork } from "../runtime/context.ts";

/**
 * A change of a service's demands. It names the job, so that enqueuing the same change twice is one
 * job.
 */
export interface DemandChange {
  serviceId: string;
  /** Any demand that changed; the others of the same transaction are decided with it. */
  demandId: string;
  to: "firing" | "resolved" | "released";
}

/** Enqueues one autoscale job per change: pass at most one change of each service. */
export function enqueueAutoscale(
  tx: Pick<UnitOfWork, "enqueue">,
  changes: readonly DemandChange[],
): void {
  for (const { serviceId, demandId, to } of changes) {
    tx.enqueue({
      name: "autoscale-service",
      jobId: `autoscale:${serviceId}:${demandId}-${to}`,
      payload: { serviceId },
    });
  }
}
