import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { findLastDecision, insertDecision } from "../../db/queries/autoscaling/decisions.ts";
import { releaseDueDemandsOfService } from "../../db/queries/autoscaling/demands.ts";
import {
  lockServiceById,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { newId } from "../../lib/ids.ts";
import type { ReplicasDecision } from "../../scheduler/autoscaling/decide-replicas.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideServiceReplicas } from "../replicas/decide-replicas.ts";
import { demandEvents } from "./demand-events.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";

export interface AutoscaleOutcome {
  from: number;
  to: number;
  /** Whether sets were added or removed for it. */
  acted: boolean;
}

/**
 * Decides how many sets a service should have, and in the same transaction stores the decision with its reasons and adds or
 * removes the sets. Everything is read from the database under the service's row lock: safe to run at any time, twice at
 * once, or late. A decision that changes nothing is stored only when its reasons are not those of the last one, so
 * redeliveries and sweeps leave no trace. Undefined: the service is gone or going.
 */
export async function autoscaleService(
  ctx: ControlContext,
  serviceId: string,
): Promise<AutoscaleOutcome | undefined> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceById(tx, serviceId);
    if (!service || service.deleting) return undefined;
    const released = await releaseDueDemandsOfService(tx, serviceId);
    tx.emit(...demandEvents("demand-released", released));
    const decision = await decideServiceReplicas(tx, service);
    const from = service.desiredReplicas;
    if (decision.desired === from) {
      await noteDecision(tx, service, decision);
      return { from, to: from, acted: false };
    }
    await act(tx, service, decision);
    return { from, to: decision.desired, acted: true };
  });
}

async function act(tx: UnitOfWork, service: ServiceRow, decision: ReplicasDecision): Promise<void> {
  const from = service.desiredReplicas;
  const changed: ServiceRow = { ...service, desiredReplicas: decision.desired };
  changed.generation = await updateService(tx, changed);
  const direction = decision.desired > from ? "out" : "in";
  await Promise.all([
    reconcileServiceSets(tx, changed),
    storeDecision(tx, changed, from, decision, true),
  ]);
  tx.emit({
    kind: "decision-made",
    text: `${service.name} scales ${direction} from ${from} to ${decision.desired}: ${decision.because.join("; ")}`,
    tenantId: service.tenantId,
    serviceId: service.id,
    generation: changed.generation,
    data: { from, to: decision.desired, because: decision.because },
  });
}

async function noteDecision(
  tx: Queryable,
  service: ServiceRow,
  decision: ReplicasDecision,
): Promise<void> {
  const last = await findLastDecision(tx, service.id);
  const isNews =
    last?.toReplicas !== decision.desired ||
    last.because.length !== decision.because.length ||
    last.because.some((reason, position) => reason !== decision.because[position]);
  if (isNews) await storeDecision(tx, service, service.desiredReplicas, decision, false);
}

async function storeDecision(
  tx: Queryable,
  service: ServiceRow,
  from: number,
  decision: ReplicasDecision,
  acted: boolean,
): Promise<void> {
  await insertDecision(tx, {
    id: newId("dcn"),
    tenantId: service.tenantId,
    serviceId: service.id,
    fromReplicas: from,
    toReplicas: decision.desired,
    acted,
    because: decision.because,
    generation: service.generation,
  });
}
