import { type SQL, sql } from "drizzle-orm";
import type {
  RolloutSelection,
  UpdateDirection,
  UpdateMethod,
} from "../../../contracts/api/rollouts.ts";
import type { HostState } from "../../../contracts/api/hosts.ts";
import type { OperationPhase } from "../../../contracts/api/operations.ts";
import type { ContainerStatus, SetState } from "../../../contracts/api/sets.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import type { StoredOwner } from "../../schema/operations.ts";
import {
  availableSetSql,
  replicaSetSql,
  servingSetSql,
} from "../operations/operation-conditions.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import { volumeDataSql } from "../volumes/volumes.ts";
import type { ActiveRollout } from "./rollouts.ts";

/** Where a set is between the two revisions of a rollout; see src/scheduler/rollout. */
export type StoredPosition = "from" | "to" | "other";

/** The scope of the reads of a round. The caller has locked the service. */
export interface FactsScope {
  rollout: ActiveRollout;
  minReadySeconds: number;
  limit: number;
}

const millis = (column: string) => sql.raw(`(extract(epoch from ${column}) * 1000)::float8`);

/**
 * SQL expression: the position of set `s`. In a restart, a set is at the target once its restart is
 * ordered, or if it is newer than the rollout.
 */
function positionSql({ id, kind, fromRevision, toRevision }: ActiveRollout, alias = "s"): SQL {
  const set = sql.raw(alias);
  if (kind === "restart") {
    return sql`case when ${set}.created_at >= (select started_at from rollouts where id = ${id})
      or exists (select 1 from rollout_sets done where done.rollout_id = ${id}
        and (done.outcome = 'done' or (done.ended_at is null and done.began_at is not null)) and (done.set_id = ${set}.id or done.replacement_set_id = ${set}.id)) then 'to' else 'from' end`;
  }
  return sql`case ${set}.revision when ${toRevision} then 'to' when ${fromRevision} then 'from' else 'other' end`;
}

/** SQL condition: the selection contains set `s` on host `h`. One by number contains any set. */
function selectedSql(selection: RolloutSelection): SQL {
  if ("zones" in selection) return sql`coalesce(h.zone in ${selection.zones}, false)`;
  if ("hostLabels" in selection)
    return sql`coalesce(h.labels @> ${JSON.stringify(selection.hostLabels)}::jsonb, false)`;
  if ("sets" in selection) return sql`s.id in ${selection.sets}`;
  return sql`true`;
}

/** SQL query: the replicas of the service, with what decides about each. Uses sets_service. */
function replicasSql({ rollout, minReadySeconds }: FactsScope): SQL {
  return sql`select s.*, ${positionSql(rollout)} as position, ${selectedSql(rollout.selection)} as is_selected,
      ${availableSetSql(minReadySeconds)} as is_available, ${servingSetSql} as is_serving, h.state as host_state, h.zone, coalesce(h.draining, false) as is_draining,
      case when h.state = 'ready' then coalesce(h.returned_at, h.enrolled_at) end as host_ready_since,
      o.phase, o.owner, coalesce(o.to_revision, s.revision) as leads_to,
      exists (select 1 from rollout_sets rs where rs.rollout_id = ${rollout.id} and rs.ended_at is null
        and (rs.set_id = s.id or rs.replacement_set_id = s.id)) as is_open
    from sets s left join hosts h on h.id = s.host_id left join operations o on o.set_id = s.id
    where s.service_id = ${rollout.serviceId} and ${replicaSetSql}`;
}

export interface RolloutTotalsRow {
  /** Replicas that a user stopped. */
  stopped: number;
  selected: number;
  atTarget: number;
  availableAtTarget: number;
  selectedAvailableAtTarget: number;
  atOther: number;
}

/** Counts the replicas that no user stopped. */
export async function readRolloutTotals(
  q: Queryable,
  scope: FactsScope,
): Promise<RolloutTotalsRow> {
  const [row] = await queryRows<RolloutTotalsRow>(
    q,
    sql`select (count(*) filter (where desired = 'stopped'))::int as stopped,
          (count(*) filter (where desired <> 'stopped' and is_selected))::int as selected,
          (count(*) filter (where desired <> 'stopped' and position = 'to'))::int as "atTarget",
          (count(*) filter (where is_available and position = 'to'))::int as "availableAtTarget",
          (count(*) filter (where is_available and position = 'to' and is_selected))::int as "selectedAvailableAtTarget",
          (count(*) filter (where desired <> 'stopped' and position = 'other'))::int as "atOther"
        from (${replicasSql(scope)}) s`,
  );
  const none = { stopped: 0, selected: 0, atTarget: 0, availableAtTarget: 0 };
  return row ?? { ...none, selectedAvailableAtTarget: 0, atOther: 0 };
}

/** The operation of a set in progress. */
export interface StoredSetOperation {
  phase: OperationPhase;
  owner: StoredOwner;
  toRevision: number;
  /** The code of the reason why it waits. */
  blockedBy: string | null;
}

export interface CandidateRow {
  setId: string;
  at: StoredPosition;
  revision: number;
  isSelected: boolean;
  isServing: boolean;
  isAvailable: boolean;
  isStopped: boolean;
  hostId: string | null;
  hostState: HostState | null;
  isHostDraining: boolean;
  hasVolume: boolean;
  operation: StoredSetOperation | null;
}

/**
 * SQL expression: why operation `o` of set `s` waits. A lack of capacity counts after several
 * tries, and only if no set of the service is about to free some.
 */
const blockedBySql = sql`case when o.blocked->>'code' not in ('update-held', 'move-held')
    or (o.attempts >= 3 and not exists (select 1 from sets x
      where x.service_id = s.service_id and x.desired = 'deleted' and x.host_id is not null))
  then o.blocked->>'code' end`;

const operationSql = sql`case when s.phase is not null then json_build_object('phase', s.phase, 'owner', s.owner,
  'toRevision', s.leads_to, 'blockedBy', null) end`;

/**
 * Lists the sets that the rollout may begin to change, in the order that `Candidate` of
 * src/scheduler/rollout states.
 */
export async function listRolloutCandidates(
  q: Queryable,
  scope: FactsScope,
): Promise<CandidateRow[]> {
  const { rollout, limit } = scope;
  const wants =
    rollout.state === "rolling-back"
      ? sql`s.position <> 'from'`
      : sql`((s.is_selected and s.position <> 'to') or (s.position = 'other' and not s.is_serving)
          or (${rollout.returnsExcess}::boolean and s.position = 'to'))`;
  const cannotBegin = sql`(coalesce(s.host_state <> 'ready', false) or coalesce(s.owner <> 'rollout', false))`;
  return queryRows(
    q,
    sql`select s.id as "setId", s.position as at, s.revision, s.is_selected as "isSelected", s.is_serving as "isServing",
          s.is_available as "isAvailable",
          s.desired = 'stopped' as "isStopped", s.host_id as "hostId", s.host_state as "hostState", s.is_draining as "isHostDraining",
          s.volume_bytes > 0 or ${volumeDataSql} as "hasVolume", ${operationSql} as operation
        from (select s.*, row_number() over (partition by s.zone, s.position
            order by case when s.position = 'to' then null else s.id end, s.id desc) as turn
          from (${replicasSql(scope)}) s where not s.is_open and (${wants} or s.owner = 'rollout')) s
        order by ${cannotBegin}, s.is_serving, s.position <> 'other', s.turn, s.id limit ${limit}`,
  );
}

export interface OpenRecordRow {
  setId: string;
  method: UpdateMethod;
  direction: UpdateDirection;
  isSelected: boolean;
  at: StoredPosition;
  revision: number;
  isServing: boolean;
  isAvailable: boolean;
  hostId: string | null;
  operation: StoredSetOperation | null;
  isStopped: boolean;
  beganAtMs: number | null;
  readyAtMs: number | null;
  restartsBefore: Record<string, number>;
  isDeleted: boolean;
  state: SetState;
  hostReadySinceMs: number | null;
  ready: boolean;
  readySinceMs: number | null;
  unreadySinceMs: number | null;
  containers: ContainerStatus[];
}

/**
 * Lists the open records. The facts of the replica are those of the replaced set `s`, until its
 * replacement has taken its place. The others are those of the set that gets the revision.
 */
export async function listOpenRecords(
  q: Queryable,
  { rollout, minReadySeconds, limit }: FactsScope,
): Promise<OpenRecordRow[]> {
  return queryRows(
    q,
    sql`select r.set_id as "setId", r.method, r.direction, ${selectedSql(rollout.selection)} as "isSelected",
          ${positionSql(rollout)} as at, s.revision, ${servingSetSql} as "isServing",
          ${availableSetSql(minReadySeconds)} as "isAvailable",
          s.host_id as "hostId", case when o.set_id is not null then json_build_object('phase', o.phase, 'owner', o.owner,
            'toRevision', coalesce(o.to_revision, s.revision), 'blockedBy', ${blockedBySql}) end as operation,
          s.desired = 'stopped' or u.desired = 'stopped' as "isStopped", ${millis("r.began_at")} as "beganAtMs",
          ${millis("r.ready_at")} as "readyAtMs", r.restarts_before as "restartsBefore",
          u.deleted_at is not null or u.desired = 'deleted' as "isDeleted", u.state,
          case when uh.state = 'ready' then ${millis("coalesce(uh.returned_at, uh.enrolled_at)")} end as "hostReadySinceMs",
          u.ready, ${millis("u.ready_since")} as "readySinceMs", ${millis("u.unready_since")} as "unreadySinceMs", u.containers
        from rollout_sets r
          join sets old on old.id = r.set_id
          join sets u on u.id = coalesce(r.replacement_set_id, r.set_id)
          join sets s on s.id = case when old.deleted_at is null and old.desired <> 'deleted' then old.id else u.id end
          left join hosts h on h.id = s.host_id left join hosts uh on uh.id = u.host_id
          left join operations o on o.set_id = s.id
        where r.rollout_id = ${rollout.id} and r.ended_at is null order by r.set_id limit ${limit}`,
  );
}

/** Notes that the updated sets of these open records are ready with their new containers. */
export async function noteReadyRecords(
  q: Queryable,
  rolloutId: string,
  setIds: readonly string[],
): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(
    sql`update rollout_sets set ready_at = now()
        where rollout_id = ${rolloutId} and set_id = ${anyOf(setIds)} and ended_at is null and ready_at is null`,
  );
}

export interface UnhealthySetRow {
  setId: string;
  readySinceMs: number | null;
  wasReady: boolean;
  unreadySinceMs: number | null;
  placedAtMs: number;
  hostReadySinceMs: number | null;
}

/** Lists sets at the target that are not healthy and have no open record, as `UnhealthySet`. */
export async function listUnhealthySets(
  q: Queryable,
  scope: FactsScope,
): Promise<UnhealthySetRow[]> {
  return queryRows(
    q,
    sql`select s.id as "setId", case when s.ready and not s.is_broken then ${millis("s.ready_since")} end as "readySinceMs",
          s.was_ready as "wasReady", ${millis("s.unready_since")} as "unreadySinceMs",
          coalesce(${millis("s.placed_at")}, ${millis("s.created_at")}) as "placedAtMs", ${millis("s.host_ready_since")} as "hostReadySinceMs"
        from (select s.*, jsonb_path_exists(s.containers, '$[*] ? (@.ready == false)') as is_broken from (${replicasSql(scope)}) s) s
        where s.position = 'to' and s.desired = 'running' and s.host_id is not null and not s.is_open
          and (not s.is_available or s.is_broken) and coalesce(s.phase = 'waiting', true)
        order by s.host_ready_since is null, s.id limit ${scope.limit}`,
  );
}
