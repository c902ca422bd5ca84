import type { Want } from "../../contracts/api/autoscaling.ts";
import { assert } from "../../lib/assert.ts";

/**
 * The replicas that a rule wants over a base after `steps` steps. Bounded by `replicasMax`, which
 * no service exceeds, and not yet by the service's own bounds.
 */
export function wantedReplicas(
  want: Want,
  base: number,
  steps: number,
  replicasMax: number,
): number {
  const { replicas, step, factor } = want;
  if (replicas !== undefined) return replicas;
  if (step !== undefined) return Math.min(base + step * steps, replicasMax);
  assert(factor !== undefined, "a want has one of replicas, step and factor");
  // Round to a millionth first: 10 x 1.1 is 11, although it is 11.000000000000002 in binary.
  return Math.min(Math.ceil(Math.round(base * factor * 1e6) / 1e6), replicasMax);
}
