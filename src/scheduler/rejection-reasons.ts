import type { FilterContext, Filters } from "./filters.ts";
import { shortageOf } from "./fits.ts";
import { DIMENSION_COUNT, poolPolicyOf } from "./host-table.ts";
import {
  dimensions,
  type HostSnapshot,
  type RejectReason,
  rejectReasons,
  type Rejection,
} from "./model.ts";

/**
 * For each reason on how many hosts it holds. All filters are asked about all hosts, unlike when a set is placed: a host that is too full
 * and of the wrong label counts under both, so that nobody mends one only to learn of the other. Most hosts first.
 */
export function explainAgainst(
  { fleet, table }: FilterContext,
  planned: Float64Array,
  shape: { filters: Filters; ask: Float64Array; avoided: readonly number[] },
): Rejection["reasons"] {
  const pools = new Map(fleet.policy.pools.map((pool) => [pool.pool, pool]));
  const counts = new Map<RejectReason, number>();
  for (const [rank, host] of table.hosts.entries()) {
    const reasons = shape.filters.reasonsAgainst(rank);
    if (shape.avoided.includes(rank)) reasons.push("avoided");
    reasons.push(...shortages(host, rank));
    for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  return [...counts]
    .map(([reason, hosts]) => ({ reason, hosts }))
    .sort(
      (a, b) =>
        b.hosts - a.hosts || rejectReasons.indexOf(a.reason) - rejectReasons.indexOf(b.reason),
    );

  function shortages(host: HostSnapshot, rank: number): RejectReason[] {
    const pool = poolPolicyOf(pools, host.pool);
    return dimensions.flatMap((dimension, d) => {
      const alreadyPlanned = planned[rank * DIMENSION_COUNT + d] as number;
      return (
        shortageOf(host, pool, dimension, shape.ask[d] as number, alreadyPlanned)?.reason ?? []
      );
    });
  }
}
