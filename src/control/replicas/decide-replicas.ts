import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listHeldDemands } from "../../db/queries/autoscaling/demands.ts";
import { findTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { assert } from "../../lib/assert.ts";
import {
  DEMANDS_NAMED_MAX,
  decideReplicas,
  type ReplicasDecision,
} from "../../scheduler/autoscaling/decide-replicas.ts";
import { countWithinQuota } from "../tenancy/quota.ts";

export interface ServiceDecision extends ReplicasDecision {
  /** How many demands the service is held by. */
  heldTotal: number;
}

/**
 * How many sets a locked service should have now, from what is in the database: what people want (`service.replicas`), the
 * demands that are held, and its bounds. What alerts want beyond the tenant's quota is cut to the quota; what people
 * want is not: their request is refused instead (assertWithinQuota). Writes nothing; may lock the tenant's row.
 */
export async function decideServiceReplicas(
  tx: Queryable,
  service: ServiceRow,
): Promise<ServiceDecision> {
  const { demands, total } = await listHeldDemands(tx, service.id, DEMANDS_NAMED_MAX);
  const input = {
    replicas: service.replicas,
    bounds: service.autoscale,
    demands,
    demandsTotal: total,
  };
  const decision = { ...decideReplicas(input), heldTotal: total };
  const ofPeople = decideReplicas({ ...input, demands: [], demandsTotal: 0 }).desired;
  const granted = Math.max(ofPeople, service.desiredReplicas);
  if (decision.desired <= granted) return decision;
  const template = await findTemplate(tx, service.id, service.revision);
  assert(template, "a service's newest revision exists");
  const room = await countWithinQuota(
    tx,
    service.tenantId,
    template,
    decision.desired - service.desiredReplicas,
  );
  const affordable = Math.max(ofPeople, service.desiredReplicas + room);
  if (decision.desired <= affordable) return decision;
  const limit = `the tenant's quota has room for ${affordable} sets of this service`;
  return { ...decision, desired: affordable, because: [...decision.because, limit] };
}
