import { sql } from "drizzle-orm";
import type { DesiredSetState, SetState } from "../../../contracts/api/sets.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows } from "../runtime/query.ts";
import { availableSetSql, replicaSetSql } from "../operations/operation-conditions.ts";
import { volumeDataSql } from "../volumes/volumes.ts";

/** Twice the replicas that a service may have. */
const CANDIDATES_MAX = 40_000;

/** A replica of a service, with the host that it is on. Host columns are null while it has none. */
export interface ScaleInCandidateRow {
  id: string;
  hostId: string | null;
  hostName: string | null;
  zone: string | null;
  rack: string | null;
  /** False on a cordoned or draining host. */
  hostAcceptsSets: boolean;
  state: SetState;
  desired: DesiredSetState;
  isReady: boolean;
  /**
   * Ready for `minReadySeconds`, and neither a user stops it nor an operation removes it: the
   * budget counts the set.
   */
  isAvailable: boolean;
  isMoving: boolean;
  /** A user stopped the set, and its host has data of its volume. */
  isStoppedWithData: boolean;
  /** The set restores a volume from the trash, and was never ready. */
  isRestoring: boolean;
  createdAtMs: number;
}

/**
 * All replicas of a service, in no order: the sets that a scale-in may remove. Uses sets_service.
 */
export async function listScaleInCandidates(
  q: Queryable,
  serviceId: string,
  minReadySeconds: number,
): Promise<ScaleInCandidateRow[]> {
  return queryRows(
    q,
    sql`select s.id, s.host_id as "hostId", h.name as "hostName", h.zone, h.rack,
          coalesce(not (h.draining or h.cordoned), true) as "hostAcceptsSets",
          s.state, s.desired, s.ready as "isReady",
          ${availableSetSql(minReadySeconds)} as "isAvailable",
          exists (select 1 from operations o where o.set_id = s.id) as "isMoving",
          s.desired = 'stopped' and ${volumeDataSql} as "isStoppedWithData",
          s.restore_volume_id is not null and not (s.was_ready or s.ready) as "isRestoring",
          (extract(epoch from s.created_at) * 1000)::float8 as "createdAtMs"
        from sets s left join hosts h on h.id = s.host_id
        where s.service_id = ${serviceId} and ${replicaSetSql}
        limit ${CANDIDATES_MAX}`,
  );
}
