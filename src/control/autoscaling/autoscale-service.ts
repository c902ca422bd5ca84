import { REPLICAS_MAX } from "../../contracts/common/limits.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { findLastDecision, insertDecision } from "../../db/queries/autoscaling/decisions.ts";
import {
  releaseDueDemands,
  releaseStaleDemands,
  updateDemandBase,
} from "../../db/queries/autoscaling/demands.ts";
import { deleteAutoscaleState, updateAutoscaleState } from "../../db/queries/autoscaling/states.ts";
import {
  lockServiceBriefly,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import {
  decideServiceReplicas,
  type ServiceDecision,
} from "../replicas/decide-service-replicas.ts";
import { demandEvents } from "./demand-events.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";

/**
 * A decision that the quota or the grants of the tenant limit is repeated: both change without a
 * notice to the service. The time doubles while the decision stays the same.
 */
const LIMIT_RECHECK_MS_MIN = 10_000;
const LIMIT_RECHECK_MS_MAX = 60_000;

export interface AutoscaleOutcome {
  from: number;
  to: number;
  /** True if it adds or removes sets. */
  acted: boolean;
}

/**
 * Decides how many sets a service should have. One transaction releases due demands, stores the
 * decision with its reasons, adds or removes the sets, and notes when the service is due next. It
 * reads everything under the service's row lock, so it is safe at any time, concurrently, or late.
 * It stores a decision that changes nothing only if its reasons differ from those of the last one,
 * so that a repeated delivery stores nothing. Returns undefined if the service is deleted or being
 * deleted. Throws overloaded if another transaction holds the lock of the service.
 */
export async function autoscaleService(
  ctx: ControlContext,
  serviceId: string,
): Promise<AutoscaleOutcome | undefined> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceBriefly(tx, serviceId);
    if (!service || service.deleting) {
      await deleteAutoscaleState(tx, serviceId);
      return undefined;
    }
    tx.emit(...demandEvents("demand-released", await releaseDueDemands(tx, serviceId)));
    tx.emit(...demandEvents("demand-stale", await releaseStaleDemands(tx, serviceId)));
    const decision = await decideServiceReplicas(tx, service);
    const from = service.desiredReplicas;
    const to = decision.desired;
    const scaled = to === from ? undefined : to > from ? "out" : "in";
    await updateDemandBase(tx, serviceId, decision.base, REPLICAS_MAX);
    const unchangedMs = scaled === undefined ? await noteDecision(tx, service, decision) : 0;
    const { stepsTaken } = decision;
    const recheckAfterMs = timeToRecheckMs(decision, unchangedMs);
    await updateAutoscaleState(tx, serviceId, { scaled, stepsTaken, recheckAfterMs });
    if (scaled !== undefined) await act(tx, service, decision);
    return { from, to, acted: scaled !== undefined };
  });
}

/** @param unchangedMs for how long the decisions of the service have been the same */
function timeToRecheckMs(
  { isLimited, recheckAfterMs }: ServiceDecision,
  unchangedMs: number,
): number | null {
  if (!isLimited) return recheckAfterMs;
  const limitRecheckMs = Math.min(
    Math.max(unchangedMs, LIMIT_RECHECK_MS_MIN),
    LIMIT_RECHECK_MS_MAX,
  );
  return Math.min(recheckAfterMs ?? limitRecheckMs, limitRecheckMs);
}

async function act(tx: UnitOfWork, service: ServiceRow, decision: ServiceDecision): Promise<void> {
  const from = service.desiredReplicas;
  const changed: ServiceRow = { ...service, desiredReplicas: decision.desired };
  changed.generation = await updateService(tx, changed);
  await Promise.all([
    reconcileServiceSets(tx, changed),
    storeDecision(tx, changed, from, decision, true),
  ]);
  tx.emit({
    kind: "decision-made",
    tenantId: service.tenantId,
    serviceId: service.id,
    generation: changed.generation,
    data: { service: service.name, from, to: decision.desired, because: decision.because },
  });
}

/**
 * Stores a decision that changes nothing, unless the last one is equal. Returns the age of an equal
 * decision, or 0.
 */
async function noteDecision(
  tx: Queryable,
  service: ServiceRow,
  decision: ServiceDecision,
): Promise<number> {
  const last = await findLastDecision(tx, service.id);
  const isNews =
    last?.toReplicas !== decision.desired ||
    last.because.length !== decision.because.length ||
    last.because.some((reason, position) => reason !== decision.because[position]);
  if (!isNews) return last.ageMs;
  await storeDecision(tx, service, service.desiredReplicas, decision, false);
  return 0;
}

async function storeDecision(
  tx: Queryable,
  service: ServiceRow,
  from: number,
  decision: ServiceDecision,
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
