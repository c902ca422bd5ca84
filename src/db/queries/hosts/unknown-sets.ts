import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows, readByKey } from "../runtime/query.ts";

export interface UnlistedSet {
  setId: string;
  /** Berth or an operator has deleted the set, or another host has reported it ready since. */
  isDeleted: boolean;
  /** Another host has the set, or the database has no row of it. */
  isUnknown: boolean;
}

/**
 * Reads what the database knows of sets that a host has and that its answers do not list. Also
 * reads the ids that are stored as unknown sets of the host, so that none is stored twice.
 *
 * A restored database may have a set on its previous host, with the state of that time. So a set
 * replaces one here only if its host has reported it ready after this host reported the unknown
 * one. A set with a volume replaces none, because only an operator knows which volume has the data
 * (I13).
 */
export async function readUnlistedSets(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<{ sets: UnlistedSet[]; stored: string[] }> {
  const [row] = await readByKey<{ sets: UnlistedSet[]; stored: string[] }>(
    q,
    sql`select
          (select coalesce(json_agg(json_build_object('setId', u.id, 'isUnknown', s.deleted_at is null and s.host_id is distinct from ${hostId},
              'isDeleted', s.deleted_at is not null or x.deletion_ordered_at is not null
                or (s.host_id <> ${hostId} and s.ready and x.replaced_at is not null and s.volume_bytes = 0))), '[]')
            from json_array_elements_text(${JSON.stringify(setIds)}::json) u(id)
              left join sets s on s.id = u.id
              left join unknown_sets x on x.host_id = ${hostId} and x.set_id = u.id) as sets,
          (select coalesce(json_agg(set_id), '[]') from unknown_sets where host_id = ${hostId}) as stored`,
  );
  return row ?? { sets: [], stored: [] };
}

/**
 * Stores which sets of a host the database does not know, and forgets the others. Returns the
 * number of sets that were not stored before.
 */
export async function storeUnknownSets(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<number> {
  const rows = await queryRows<{ setId: string }>(
    q,
    sql`with reported as materialized (
          select value as set_id from json_array_elements_text(${JSON.stringify(setIds)}::json)
        ), gone as (
          delete from unknown_sets where host_id = ${hostId} and set_id not in (select set_id from reported)
        )
        insert into unknown_sets (host_id, set_id)
        select h.id, set_id from reported join hosts h on h.id = ${hostId} order by set_id
        on conflict do nothing
        returning set_id as "setId"`,
  );
  return rows.length;
}

/** Adds unknown sets of a host. Returns the number of those that were not stored before. */
export async function addUnknownSets(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<number> {
  const rows = await queryRows<{ setId: string }>(
    q,
    sql`insert into unknown_sets (host_id, set_id)
        select h.id, value from json_array_elements_text(${JSON.stringify(setIds)}::json) join hosts h on h.id = ${hostId} order by value
        on conflict do nothing
        returning set_id as "setId"`,
  );
  return rows.length;
}

/** True if another host has the set `s` as an unknown set, until `noteReplacements` names it. */
export const unconfirmedCopySql = sql`exists (select 1 from unknown_sets x where x.set_id = s.id and x.host_id <> s.host_id and x.replaced_at is null)`;

/**
 * Records that the host of these sets has reported them ready, after other hosts reported them as
 * unknown. (Index unknown_sets_set.)
 */
export async function noteReplacements(
  q: Queryable,
  hostId: string,
  setIds: readonly string[],
): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(
    sql`update unknown_sets set replaced_at = now()
        where set_id = ${anyOf(setIds)} and host_id <> ${hostId} and replaced_at is null`,
  );
}

/** Orders the deletion of all unknown sets of a host. Returns their number. */
export async function orderUnknownSetsDeleted(q: Queryable, hostId: string): Promise<number> {
  const rows = await queryRows<{ setId: string }>(
    q,
    sql`update unknown_sets set deletion_ordered_at = coalesce(deletion_ordered_at, now())
        where host_id = ${hostId} returning set_id as "setId"`,
  );
  return rows.length;
}
