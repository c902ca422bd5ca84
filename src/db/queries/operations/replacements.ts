import { type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import { forcedDrainSql, liveSetSql } from "./operation-conditions.ts";

/** A set that is being replaced. */
export interface ReplacedSet {
  setId: string;
  hostId: string | null;
  replacementSetId: string;
  replacementHostId: string | null;
  isReplacementLive: boolean;
  /** A forced drain of the set's host has passed its deadline. */
  isForced: boolean;
  outcome: "ready" | "canceled" | "expired";
}

/**
 * SQL condition: replacement `n` has been ready for `minReadySeconds` of its service `v`, so Berth
 * removes the replaced set. A forced drain `d` of its host `h` does not wait for that time.
 */
const isAvailableSql = sql`(n.state = 'running' and n.ready and n.desired = 'running' and n.deleted_at is null
  and (${forcedDrainSql} or coalesce(n.ready_since, '-infinity') <= now() - make_interval(secs =>
    coalesce((v.disruption->>'minReadySeconds')::float8, 0))))`;

/**
 * SQL query: sets whose replacements are available. Berth removes them next. `filter` is a
 * condition on operation `o`.
 */
export function replacedSetsSql(filter: SQL): SQL {
  return sql`select o.set_id from operations o join sets s on s.id = o.set_id join services v on v.id = o.service_id
      join sets n on n.id = o.replacement_set_id
      left join hosts h on h.id = s.host_id left join drains d on d.host_id = h.id
    where ${filter} and o.phase = 'replacing' and ${isAvailableSql}`;
}

/**
 * SQL query: replacements that need a decision. The replacement is available, a user stopped the
 * replaced set, or the replacement missed its deadline. One that is ready, but not for
 * `minReadySeconds` yet, gets the time. `filter` is a condition on operation `o`.
 */
function decidedReplacementsSql(filter: SQL): SQL {
  const outcome = sql`case when s.desired = 'stopped' then 'canceled'
    when ${isAvailableSql} then 'ready'
    when n.id is null or n.deleted_at is not null or n.desired = 'deleted' then 'expired'
    when (o.due_at <= now() or ${forcedDrainSql}) and not (n.state = 'running' and n.ready) then 'expired' end`;
  return sql`select * from (
      select o.service_id as "serviceId", o.set_id as "setId", s.host_id as "hostId", n.host_id as "replacementHostId",
        o.replacement_set_id as "replacementSetId",
        coalesce(n.deleted_at is null and n.desired <> 'deleted', false) as "isReplacementLive", ${forcedDrainSql} as "isForced", ${outcome} as outcome
      from operations o join sets s on s.id = o.set_id join services v on v.id = o.service_id
        left join sets n on n.id = o.replacement_set_id
        left join hosts h on h.id = s.host_id left join drains d on d.host_id = h.id
      where o.phase = 'replacing' and ${liveSetSql} and ${filter}
    ) d where outcome is not null`;
}

/**
 * Lists services after `after` with replacements that need a decision, in the order of their ids.
 */
export async function listServicesWithDecidedReplacements(
  q: Queryable,
  after: string,
  limit: number,
): Promise<string[]> {
  const decided = decidedReplacementsSql(sql`o.service_id > ${after}`);
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct "serviceId" as id from (${decided}) d order by 1 limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/** Lists replacements of a service that need a decision. The caller has locked the service. */
export async function listDecidedReplacements(
  q: Queryable,
  serviceId: string,
  limit: number,
): Promise<ReplacedSet[]> {
  const decided = decidedReplacementsSql(sql`o.service_id = ${serviceId}`);
  return queryRows(q, sql`${decided} order by "setId" limit ${limit}`);
}

/** The set that is to replace the set `setId`. */
export interface Replacement {
  id: string;
  hostId: string | null;
  setId: string;
}

/** Lists the live replacements of these sets. */
export async function listReplacements(
  q: Queryable,
  setIds: readonly string[],
): Promise<Replacement[]> {
  if (setIds.length === 0) return [];
  return queryRows(
    q,
    sql`select s.id, s.host_id as "hostId", o.set_id as "setId" from operations o join sets s on s.id = o.replacement_set_id
        where o.set_id = ${anyOf(setIds)} and ${liveSetSql} order by s.id`,
  );
}
