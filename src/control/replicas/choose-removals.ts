import type { RemovalReason } from "../../contracts/api/dry-run.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  listScaleInCandidates,
  type ScaleInCandidateRow,
} from "../../db/queries/sets/scale-in-candidates.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import {
  chooseScaleInVictims,
  type ScaleInHost,
} from "../../scheduler/placement/choose-victims.ts";

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
 * @param isUnavailableOnly leaves out sets that the budget counts, and sets that a user stopped
 */
export async function chooseRemovals(
  q: Queryable,
  service: Pick<ServiceRow, "id" | "placement" | "disruption">,
  count: number,
  { isUnavailableOnly = false }: { isUnavailableOnly?: boolean } = {},
): Promise<Removal[]> {
  const { minReadySeconds } = service.disruption;
  const replicas = await listScaleInCandidates(q, service.id, minReadySeconds);
  const candidates = isUnavailableOnly
    ? replicas.filter(({ isAvailable, desired }) => !isAvailable && desired === "running")
    : replicas;
  const hosts = new Map(candidates.flatMap((row) => hostOf(row) ?? []).map((h) => [h.id, h]));
  const byId = new Map(candidates.map((row) => [row.id, row]));
  const { spread } = service.placement;
  return chooseScaleInVictims(candidates, [...hosts.values()], spread, count).map(
    ({ setId, hostId, reason }) => ({
      id: setId,
      hostId,
      hostName: byId.get(setId)?.hostName ?? null,
      isAvailable: byId.get(setId)?.isAvailable ?? false,
      reason,
    }),
  );
}

function hostOf({ hostId, zone, rack, hostAcceptsSets }: ScaleInCandidateRow): ScaleInHost | null {
  if (hostId === null || zone === null || rack === null) return null;
  return { id: hostId, zone, rack, acceptsSets: hostAcceptsSets };
}
