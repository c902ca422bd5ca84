import type { JobRing } from "../../contracts/jobs.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { insertOutbox } from "../../db/queries/runtime/outbox.ts";
import type { Aftermath } from "../replicas/reconcile-replicas.ts";

/** What changed of a service's demands: names the job, so that ringing for the same change twice is one job. */
export interface DemandChange {
  serviceId: string;
  /** Any demand that changed; the others of the same transaction are decided with it. */
  demandId: string;
  to: "firing" | "resolved" | "released";
}

/** Leaves autoscale jobs to be rung after the transaction, one a change: pass at most one change of each service. */
export async function ringAutoscale(
  tx: Queryable,
  changes: readonly DemandChange[],
): Promise<Aftermath> {
  const rings = changes.map((change): JobRing => ({
    name: "autoscale-service",
    jobId: `autoscale:${change.serviceId}:${change.demandId}-${change.to}`,
    payload: { serviceId: change.serviceId },
  }));
  return { rings, outboxIds: await insertOutbox(tx, rings), signals: ["events"] };
}
