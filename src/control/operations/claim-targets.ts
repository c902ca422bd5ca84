import { addOverhead, overheadOf } from "../../contracts/api/container-overhead.ts";
import { listNeededFeatures } from "../../contracts/agent-protocol/agent-features.ts";
import { listAllHostPools, tryLockFleetHosts } from "../../db/queries/placement/fleet.ts";
import { insertClaims, type NewClaim } from "../../db/queries/operations/claims.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { hasFeatures } from "../../scheduler/placement/filters.ts";
import { reserveIfFits } from "../placement/growth.ts";
import type { FleetCache } from "../placement/fleet-cache.ts";
import { toHostSnapshot, toPlanPolicy } from "../placement/host-snapshot.ts";
import { capacityReason, type OperationDecision } from "./decide-operations.ts";

/**
 * Books capacity on the next host of each set that stops first, so that no other set takes it
 * meanwhile. Returns the decisions. A decision without capacity becomes `wait`, except in a forced
 * drain.
 *
 * The caller has locked other hosts, so this function waits for no locked host. The next round
 * retries it.
 */
export async function claimTargets(
  tx: Queryable,
  decisions: readonly OperationDecision[],
  { ignoredSelfTests }: Pick<FleetCache, "ignoredSelfTests">,
): Promise<OperationDecision[]> {
  const wanted = decisions.flatMap((decision) => toClaim(decision) ?? []);
  const neededBySetId = new Map(
    decisions.map(({ operation, template }) => [operation.setId, listNeededFeatures(template)]),
  );
  if (wanted.length === 0) return [...decisions];
  const pools = await listAllHostPools(tx);
  const rows = await tryLockFleetHosts(tx, [...new Set(wanted.map(({ hostId }) => hostId))]);
  const hosts = new Map(rows.map((row) => [row.id, toHostSnapshot(row, ignoredSelfTests)]));
  const policy = toPlanPolicy(pools, 0);
  const fitting = wanted.filter((claim) => {
    const host = hosts.get(claim.hostId);
    return (
      host?.readiness === "ready" &&
      hasFeatures(host, neededBySetId.get(claim.setId) ?? []) &&
      reserveIfFits(host, policy, claim).ok
    );
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

/** Returns the claim on the next host, or undefined if the decision needs none. */
function toClaim(decision: OperationDecision): NewClaim | undefined {
  if (decision.step !== "stop-first" || decision.targetId === undefined) return undefined;
  const { operation, template, targetId: hostId } = decision;
  const { rootfsBytes } = template;
  const amounts = addOverhead({ ...operation.to, rootfsBytes }, overheadOf(template));
  return { setId: operation.setId, hostId, ...amounts };
}
