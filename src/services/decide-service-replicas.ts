import type { Queryable } from "../db/client.ts";
import { type HeldDemandRow, listHeldDemands } from "../db/queries/held-demands.ts";
import { isoTime } from "../db/queries/rows.ts";
import type { ServiceRow } from "../db/queries/service-writes.ts";
import { decideReplicas } from "../scheduler/autoscale.ts";

/** How many sets a locked service should have now, by its replicas, its bounds and the demands that are held. */
export async function decideServiceReplicas(
  tx: Queryable,
  service: Pick<ServiceRow, "id" | "replicas" | "autoscale">,
): Promise<{ desired: number; because: string[] }> {
  const demands = service.autoscale === null ? [] : await listHeldDemands(tx, service.id);
  return decideReplicas({
    replicas: service.replicas,
    bounds: service.autoscale,
    demands: demands.map((demand) => ({ wantedReplicas: demand.wantedReplicas, text: describe(demand) })),
  });
}

function describe(demand: HeldDemandRow): string {
  const name = demand.alertName === null ? demand.key.slice(0, 40) : `${demand.alertName} (${demand.key.slice(0, 16)})`;
  const since = isoTime(demand.startedAt).replace(/\.\d+Z$/, "Z");
  return `alert ${name} on hook ${demand.hook}, ${demand.state} since ${since},`;
}
