import { notFound } from "../../contracts/common/app-error.ts";
import type { Demand } from "../../contracts/api/autoscaling.ts";
import {
  findDemand,
  releaseDemand as releaseDemandRow,
} from "../../db/queries/autoscaling/demands.ts";
import { markAutoscaleDue } from "../../db/queries/autoscaling/states.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { demandEvents } from "./demand-events.ts";
import { enqueueAutoscale } from "./enqueue-autoscale.ts";

/**
 * Releases a demand immediately, even while its alert fires. The same episode of the alert does not
 * raise it again. Use it for alerts that never resolve, because a missing delivery releases nothing
 * (I12). A second release changes nothing. Throws not-found.
 */
export async function releaseDemand(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  demandId: string,
): Promise<Demand> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, serviceName);
    if (!service) throw notFound("demand");
    const released = await releaseDemandRow(tx, service.id, demandId);
    const found = await findDemand(tx, service.id, demandId);
    if (!found) throw notFound("demand");
    if (released) {
      tx.emit(...demandEvents("demand-released", [released]));
      await markAutoscaleDue(tx, service.id);
      enqueueAutoscale(tx, [{ serviceId: service.id, demandId, to: "released" }]);
    }
    return found;
  });
}
