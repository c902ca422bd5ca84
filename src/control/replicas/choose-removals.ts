import type { RemovalReason } from "../../contracts/api/dry-run.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  listScaleInCandidates,
  type ScaleInCandidateRow,
} from "../../db/queries/sets/scale-in-candidates.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import {
  chooseScaleInRemovals,
  type ScaleInHost,
} from "../../scheduler/placement/choose-scale-in-removals.ts";
import {
  countDisruption,
  mayDisrupt,
  type ReplicaCounts,
} from "../../scheduler/rollout/may-disrupt.ts";

/** A set that a scale-in removes. */
export interface Removal {
  id: string;
  hostId: string | null;
  hostName: string | null;
  /** The disruption budget counts the set. */
  isAvailable: boolean;
  reason: RemovalReason;
}

/**
 * Chooses the sets that a scale-in of the service to `desired` sets removes, first one first, and
 * at most `limit`. It reads all replicas of the service and locks nothing.
 */
export async function chooseRemovals(
  q: Queryable,
  service: Pick<ServiceRow, "id" | "placement" | "disruption">,
  { desired, limit }: { desired: number; limit: number },
): Promise<Removal[]> {
  const candidates = await listScaleInCandidates(q, service.id, service.disruption.minReadySeconds);
  return chooseWithinBudget(candidates, service, { desired, limit });
}

/**
 * Chooses the removals that mayDisrupt allows (I14): only available sets count. In place of sets
 * that the budget protects it chooses sets that are not available. Stopped sets with volume data
 * and sets that restore a volume are the last of those; the trash retains the data. A service that
 * wants no sets has no availability to protect. `candidates` are all replicas of the service.
 */
export function chooseWithinBudget(
  candidates: readonly ScaleInCandidateRow[],
  service: Pick<ServiceRow, "placement" | "disruption">,
  { desired, limit }: { desired: number; limit: number },
): Removal[] {
  const live = candidates.length;
  const count = Math.min(Math.max(0, live - desired), limit);
  const chosen = chooseAmong(candidates, service, count);
  if (desired === 0 || count === 0) return chosen;
  const available = candidates.filter(({ isAvailable }) => isAvailable).length;
  // A removal depends on neither `notExpected` nor `surging`.
  let counts: ReplicaCounts = { desired, live, available, notExpected: 0, surging: 0 };
  const permitted = chosen.filter(({ isAvailable }) => {
    const set = { isAvailable, mode: "remove" as const };
    if (!mayDisrupt(service.disruption, counts, set).ok) return false;
    counts = countDisruption(counts, set);
    return true;
  });
  if (permitted.length === count) return permitted;
  const ids = new Set(permitted.map(({ id }) => id));
  const others = candidates.filter(({ id, isAvailable }) => !isAvailable && !ids.has(id));
  const hasData = (set: ScaleInCandidateRow) => set.isStoppedWithData || set.isRestoring;
  const withoutData = others.filter((set) => !hasData(set));
  const withData = others.filter(hasData);
  const replaced = [withoutData, withData].flatMap((sets) => chooseAmong(sets, service, count));
  return [...permitted, ...replaced].slice(0, count);
}

/** Chooses `count` of the candidates, which are all replicas of the service or some of them. */
function chooseAmong(
  candidates: readonly ScaleInCandidateRow[],
  { placement: { spread } }: Pick<ServiceRow, "placement">,
  count: number,
): Removal[] {
  const hosts = new Map(
    candidates.flatMap((row) => toScaleInHost(row) ?? []).map((h) => [h.id, h]),
  );
  const byId = new Map(candidates.map((row) => [row.id, row]));
  return chooseScaleInRemovals(candidates, [...hosts.values()], spread, count).map(
    ({ setId, hostId, reason }) => ({
      id: setId,
      hostId,
      hostName: byId.get(setId)?.hostName ?? null,
      isAvailable: byId.get(setId)?.isAvailable ?? false,
      reason,
    }),
  );
}

function toScaleInHost({
  hostId,
  zone,
  rack,
  hostAcceptsSets,
}: ScaleInCandidateRow): ScaleInHost | null {
  if (hostId === null || zone === null || rack === null) return null;
  return { id: hostId, zone, rack, acceptsSets: hostAcceptsSets };
}
