import type { ReplicaRequest } from "../../contracts/api/autoscaling.ts";
import { assert } from "../../lib/assert.ts";

/**
 * Computes the replicas that a rule requests over a base after `steps` steps, at most
 * `replicasMax`. The caller applies the bounds of the service.
 */
export function computeRequestedReplicas(
  request: ReplicaRequest,
  base: number,
  steps: number,
  replicasMax: number,
): number {
  const { replicas, step, factor } = request;
  if (replicas !== undefined) return replicas;
  if (step !== undefined) return Math.min(base + step * steps, replicasMax);
  assert(factor !== undefined, "a request has one of replicas, step and factor");
  // Round to a millionth first: 10 x 1.1 is 11, although it is 11.000000000000002 in binary.
  return Math.min(Math.ceil(Math.round(base * factor * 1e6) / 1e6), replicasMax);
}
