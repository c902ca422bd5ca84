import { type SQL, sql } from "drizzle-orm";
import { secondsAgo } from "../runtime/query.ts";

/** SQL condition: set `s` exists and is not marked for deletion. */
export const liveSetSql = sql`s.deleted_at is null and s.desired <> 'deleted'`;

/**
 * SQL condition: set `s` is one of its service's replicas. A replacement counts only after the set
 * that it replaces is marked for deletion. Uses operations_replacement_unique.
 */
export const replicaSetSql = sql`${liveSetSql} and not exists (
  select 1 from operations r join sets replaced on replaced.id = r.set_id
  where r.replacement_set_id = s.id and replaced.deleted_at is null and replaced.desired <> 'deleted')`;

/**
 * SQL condition: the operation of set `s` removes the set from its host to place it again. During
 * an upgrade, a process of the previous release may complete that and clear the column.
 */
export const leavingSetSql = sql`(s.leaving and exists (select 1 from operations l where l.set_id = s.id and l.phase = 'leaving'))`;

/** SQL condition: drain `d` of host `h` is forced and past its deadline. It ignores budgets. */
export const forcedDrainSql = sql`coalesce(h.draining and d.is_forced and coalesce(d.deadline_at, d.created_at) <= now(), false)`;

/** SQL condition: set `s` is ready, and neither a user stops it nor an operation removes it. */
export const servingSetSql = sql`(s.ready and s.desired = 'running' and not ${leavingSetSql})`;

/**
 * SQL condition: the disruption budget counts set `s`. It has served for `minReadySeconds`.
 */
export function availableSetSql(minReadySeconds: number): SQL {
  return sql`(${servingSetSql} and coalesce(s.ready_since, '-infinity') <= ${secondsAgo(minReadySeconds)})`;
}
