import { listAllHostPools, tryLockFleetHosts } from "../../db/queries/placement/fleet.ts";
import { insertClaims, type NewClaim } from "../../db/queries/operations/claims.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { reserveIfFits } from "../placement/growth.ts";
import { toHostSnapshot, toPlanPolicy } from "../placement/host-snapshot.ts";
import { capacityReason, type OperationDecision } from "./decide-operations.ts";

/**
 * Books the next host of each set that stops first, so that nothing else takes the capacity while
 * the set stops. Returns the decisions, of which those wait that got no capacity. A forced drain
 * stops its sets all the same.
 *
 * The caller has locked other hosts. So this does not wait for a host that another transaction has
 * locked: the next round tries it again.
 */
export async function claimTargets(
  tx: Queryable,
  decisions: readonly OperationDecision[],
): Promise<OperationDecision[]> {
  const wanted = decisions.flatMap((decision) => toClaim(decision) ?? []);
  if (wanted.length === 0) return [...decisions];
  const pools = await listAllHostPools(tx);
  const rows = await tryLockFleetHosts(tx, [...new Set(wanted.map(({ hostId }) => hostId))]);
  const hosts = new Map(rows.map((row) => [row.id, toHostSnapshot(row)]));
  const policy = toPlanPolicy(pools, 0);
  const fitting = wanted.filter((claim) => {
    const host = hosts.get(claim.hostId);
    return host?.readiness === "ready" && reserveIfFits(host, policy, claim).ok;
  });
  const claimed = await insertClaims(tx, fitting);
  return decisions.map((decision) => {
    const { operation, template } = decision;
    if (toClaim(decision) === undefined || claimed.has(operation.setId) || operation.isForced)
      return decision;
    const reason = capacityReason(operation, "the planned host has just changed.");
    return { operation, template, step: "wait", reason };
  });
}

/** The capacity that the set needs on its next host. Undefined: the decision needs none. */
function toClaim(decision: OperationDecision): NewClaim | undefined {
  if (decision.step !== "stop-first" || decision.targetId === undefined) return undefined;
  const { operation, template, targetId: hostId } = decision;
  const { rootfsBytes } = template;
  return { setId: operation.setId, hostId, ...operation.to, rootfsBytes };
}
