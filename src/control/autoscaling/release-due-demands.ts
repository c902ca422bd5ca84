import {
  type ChangedDemand,
  listUndecidedServices,
  releaseDueDemands as releaseDueDemandRows,
} from "../../db/queries/autoscaling/demands.ts";
import { autoscaleService } from "./autoscale-service.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { demandEvents } from "./demand-events.ts";
import { enqueueAutoscale } from "./enqueue-autoscale.ts";

const DEMANDS_PER_SWEEP_MAX = 1_000;
const SERVICES_PER_SWEEP_MAX = 50;

export interface ReleaseOutcome {
  /** Demands whose stabilisation time was over. */
  released: number;
  /** Services that were not the size that their demands make them, and are now. */
  scaled: number;
}

/**
 * The autoscale sweep, for every couple of seconds and from any number of processes: releases demands whose stabilisation
 * time is over and rings autoscale for their services; then decides, without Redis, for services whose size is still not
 * what it should be, which are those whose job was lost (I1) or whose tenant's quota has room again. Each call is bounded;
 * what is left is for the next.
 */
export async function releaseDueDemands(ctx: ControlContext): Promise<ReleaseOutcome> {
  const undecided = await listUndecidedServices(ctx.db, SERVICES_PER_SWEEP_MAX);
  const released = await releaseAndEnqueue(ctx);
  let scaled = 0;
  for (const serviceId of undecided) {
    const outcome = await autoscaleService(ctx, serviceId);
    if (outcome?.acted) scaled++;
  }
  return { released, scaled };
}

async function releaseAndEnqueue(ctx: ControlContext): Promise<number> {
  return unitOfWork(ctx, async (tx) => {
    const demands = await releaseDueDemandRows(tx, DEMANDS_PER_SWEEP_MAX);
    tx.emit(...demandEvents("demand-released", demands));
    enqueueAutoscale(tx, changesOf(demands));
    return demands.length;
  });
}

/** One change for each service: one job decides about all its demands. */
function changesOf(demands: readonly ChangedDemand[]) {
  const firstOfService = new Map(demands.toReversed().map((demand) => [demand.serviceId, demand]));
  return [...firstOfService.values()].map((demand) => ({
    serviceId: demand.serviceId,
    demandId: demand.id,
    to: "released" as const,
  }));
}
