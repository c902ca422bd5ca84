import { REPLICAS_MAX } from "../../contracts/common/limits.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listHeldRules } from "../../db/queries/autoscaling/demands.ts";
import {
  countReadySets,
  markAutoscaleDue,
  readAutoscaleState,
} from "../../db/queries/autoscaling/states.ts";
import { getSizedTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { getGrants } from "../../db/queries/tenancy/tenants.ts";
import {
  decideReplicas,
  type DecisionInput,
  type ReplicasDecision,
} from "../../scheduler/autoscaling/decide-replicas.ts";
import { findMissingGrants } from "../tenancy/grants.ts";
import { countWithinQuota } from "../tenancy/quota.ts";

/**
 * 32 hooks with 32 rules each, twice. If the rules of a service changed more often, only the
 * largest requests count.
 */
const HELD_RULES_MAX = 2_048;
export interface ServiceDecision extends ReplicasDecision {
  /** The number of demands that Berth holds for the service. */
  heldTotal: number;
  /** The quota or the grants of the tenant allow fewer sets than the demands call for. */
  isLimited: boolean;
}

/**
 * Decides how many sets a locked service should have now: from the replicas that users chose, the
 * held demands, and its policy. The tenant's quota and grants limit the requests of alerts. A
 * request of users beyond them fails elsewhere (assertWithinQuota, assertGranted). Writes nothing;
 * may lock the tenant's row.
 */
export async function decideServiceReplicas(
  tx: Queryable,
  service: ServiceRow,
): Promise<ServiceDecision> {
  return decideWithin(tx, service, false);
}

/**
 * Decides for a locked service that a user changes from `before` to `after`. The user's scale-in
 * applies immediately, unless a scale-in after alerts is in progress: that one continues in steps.
 * Marks the service due, so that its demands are evaluated.
 */
export async function decideChangedService(
  tx: Queryable,
  before: ServiceRow,
  after: ServiceRow,
): Promise<ServiceDecision> {
  const { target } = await decideServiceReplicas(tx, before);
  if (after.autoscale) await markAutoscaleDue(tx, after.id);
  return decideWithin(tx, after, before.desiredReplicas <= target);
}

async function decideWithin(
  tx: Queryable,
  service: ServiceRow,
  isScaleInImmediate: boolean,
): Promise<ServiceDecision> {
  const [{ rules, total }, history] = await Promise.all([
    listHeldRules(tx, service.id, HELD_RULES_MAX),
    readAutoscaleState(tx, service.id),
  ]);
  const input: DecisionInput = {
    replicas: service.replicas,
    policy: service.autoscale,
    current: service.desiredReplicas,
    // Only growth soon after a scale-out depends on the number.
    readySets: history.scaledOutAtMs === null ? 0 : await countReadySets(tx, service.id),
    rules,
    history,
    isScaleInImmediate,
    replicasMax: REPLICAS_MAX,
  };
  const decision = { ...decideReplicas(input), heldTotal: total, isLimited: false };
  return limitByTenant(tx, service, input, decision);
}

async function limitByTenant(
  tx: Queryable,
  service: ServiceRow,
  input: DecisionInput,
  decision: ServiceDecision,
): Promise<ServiceDecision> {
  const ofPeople = decideReplicas({ ...input, rules: [], isScaleInImmediate: true }).desired;
  const granted = Math.max(ofPeople, service.desiredReplicas);
  if (decision.desired <= granted) return decision;
  const missing = findMissingGrants(await getGrants(tx, service.tenantId), service);
  if (missing.length > 0)
    return limitTo(granted, `the tenant is not granted ${missing.join(", ")}`, decision);
  const template = await getSizedTemplate(tx, service);
  const addable = await countWithinQuota(
    tx,
    service.tenantId,
    template,
    decision.desired - service.desiredReplicas,
  );
  const affordable = Math.max(ofPeople, service.desiredReplicas + addable);
  if (decision.desired <= affordable) return decision;
  return limitTo(
    affordable,
    `the tenant's quota allows ${affordable} sets of this service`,
    decision,
  );
}

/** The decision with fewer sets and one more reason. */
function limitTo(desired: number, reason: string, decision: ServiceDecision): ServiceDecision {
  return { ...decision, desired, because: [...decision.because, reason], isLimited: true };
}
