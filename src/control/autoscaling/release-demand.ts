import { notFound } from "../../contracts/common/app-error.ts";
import type { Demand } from "../../contracts/api/autoscaling.ts";
import {
  findDemand,
  releaseDemand as releaseDemandRow,
} from "../../db/queries/autoscaling/demands.ts";
import { insertEvents } from "../../db/queries/events/write-events.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import { withTx } from "../../db/transaction.ts";
import type { ServiceContext } from "../runtime/context.ts";
import { demandEvents } from "./demand-events.ts";
import { carryOut } from "../replicas/reconcile-replicas.ts";
import { ringAutoscale } from "./enqueue-autoscale.ts";

/**
 * Releases a demand at once, whatever its alert does: the same run of the alert does not raise it again. For alerts whose
 * end will never be told, as silence releases nothing (I12). Releasing twice changes nothing. Throws not-found.
 */
export async function releaseDemand(
  ctx: ServiceContext,
  tenantId: string,
  serviceName: string,
  demandId: string,
): Promise<Demand> {
  const { demand, aftermath } = await withTx(ctx.db, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("demand");
    const released = await releaseDemandRow(tx, service.id, demandId);
    const found = await findDemand(tx, service.id, demandId);
    if (!found) throw notFound("demand");
    if (!released) return { demand: found, aftermath: undefined };
    await insertEvents(tx, demandEvents("demand-released", [released]));
    const change = { serviceId: service.id, demandId, to: "released" } as const;
    return { demand: found, aftermath: await ringAutoscale(tx, [change]) };
  });
  if (aftermath) await carryOut(ctx, aftermath);
  return demand;
}
