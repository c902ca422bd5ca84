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
 * Chooses the sets that a scale-in of the service by `count` removes, first one first. It reads all
 * replicas of the service and locks nothing.
 */
export async function chooseRemovals(
  q: Queryable,
  service: Pick<ServiceRow, "id" | "placement" | "disruption">,
  count: number,
): Promise<Removal[]> {
  const candidates = await listScaleInCandidates(q, service.id, service.disruption.minReadySeconds);
  return chooseAmong(candidates, service, count);
}

/** Chooses `count` of the candidates, which are all replicas of the service or some of them. */
export function chooseAmong(
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
