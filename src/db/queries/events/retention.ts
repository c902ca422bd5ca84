import { and, inArray, lt, type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { events } from "../../schema/events.ts";
import { unusedRevisionSql } from "../services/revisions.ts";
import { queryRows, secondsAgo } from "../runtime/query.ts";

/** Each function of this file reads and deletes at most `limit` rows older than `ageSeconds`. */

async function countRows(q: Queryable, query: SQL): Promise<number> {
  return (await queryRows<unknown>(q, query)).length;
}

/** Deletes old deleted sets with their placements and rejections. (Index sets_deleted.) */
export async function deleteOldSets(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  return countRows(
    q,
    sql`with old as materialized (
          select id from sets where deleted_at < ${secondsAgo(ageSeconds)} order by deleted_at limit ${limit}
        ), placed as (
          delete from placements where set_id in (select id from old)
        ), rejected as (
          delete from rejections where set_id in (select id from old)
        )
        delete from sets where id in (select id from old) returning id`,
  );
}

/**
 * Deletes old events. It reads only the lowest ids, because ids grow with time. So it needs no
 * index on the time, and reads `limit` rows of a table of any size.
 */
export async function deleteEvents(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const { id, at } = events;
  const lowestIds = q.select({ id }).from(events).orderBy(id).limit(limit);
  const rows = await q
    .delete(events)
    .where(and(inArray(id, lowestIds), lt(at, secondsAgo(ageSeconds))))
    .returning({ id });
  return rows.length;
}

export interface PlacementsPage {
  deleted: number;
  /** The start of the next page. Empty: this page reached the end, or rows that are too young. */
  nextAfterId: string;
}

/**
 * Deletes old placements that a later placement of the set supersedes (`explain` shows the last).
 * It reads one page of `limit` placements in the order of their ids. Most old placements stay,
 * because their sets run. So a call that always started with the oldest would make no progress.
 */
export async function deleteSupersededPlacements(
  q: Queryable,
  ageSeconds: number,
  { afterId, limit }: { afterId: string; limit: number },
): Promise<PlacementsPage> {
  const rows = await queryRows<{
    deleted: number;
    count: number;
    lastId: string;
    isYoung: boolean;
  }>(
    q,
    sql`with page as materialized (
          select id, set_id, created_at < ${secondsAgo(ageSeconds)} as is_old
          from placements where id > ${afterId} order by id limit ${limit}
        ), deleted as (
          delete from placements where id in (
            select p.id from page p where p.is_old
              and exists (select 1 from placements n where n.set_id = p.set_id and n.id > p.id))
          returning id
        )
        select (select count(*) from deleted)::int as deleted, count(*)::int as count,
          coalesce(max(id), '') as "lastId", coalesce(bool_or(not is_old), false) as "isYoung" from page`,
  );
  const [page] = rows;
  if (!page) return { deleted: 0, nextAfterId: "" };
  const isEnd = page.count < limit || page.isYoung;
  return { deleted: page.deleted, nextAfterId: isEnd ? "" : page.lastId };
}

/** Deletes old revisions that no set has or is to have, except the current and target revisions. */
export async function deleteOldRevisions(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  return countRows(
    q,
    sql`delete from revisions r using (
          select o.service_id, o.number from revisions o join services s on s.id = o.service_id
          where o.created_at < ${secondsAgo(ageSeconds)} and ${unusedRevisionSql}
          limit ${limit}) old
        where r.service_id = old.service_id and r.number = old.number returning r.number`,
  );
}

/** Deletes old deleted hooks without demands, and their tokens. */
export async function deleteOldHooks(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  return countRows(
    q,
    sql`with old as materialized (
          select id from hooks h where deleted_at < ${secondsAgo(ageSeconds)}
            and not exists (select 1 from demands where hook_id = h.id) limit ${limit}
        ), refused as (
          delete from tokens where hook_id in (select id from old)
        )
        delete from hooks where id in (select id from old) returning id`,
  );
}

/**
 * Deletes tokens that are revoked, expired, or used for an enrollment. The few tokens of admins
 * stay: only its row makes Berth reject a revoked secret that BERTH_ADMIN_TOKEN still contains.
 */
export async function deleteOldTokens(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  return countRows(
    q,
    sql`delete from tokens where id in (
          select id from tokens where role <> 'admin'
            and least(revoked_at, expires_at, case when role = 'enroll' then used_at end) < ${secondsAgo(ageSeconds)}
          limit ${limit})
        returning id`,
  );
}

/**
 * Deletes old deleted services without sets, and all their rows. Use a small limit, because a
 * service may have thousands of demands and decisions. (Index services_deleted.)
 */
export async function deleteOldServices(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  return countRows(
    q,
    sql`with old as materialized (
          select id from services s where deleted_at < ${secondsAgo(ageSeconds)}
            and not exists (select 1 from sets where service_id = s.id) order by deleted_at limit ${limit}
        ), wanted as (
          delete from demands where service_id in (select id from old)
        ), decided as (
          delete from decisions where service_id in (select id from old)
        ), hooked as (
          delete from hooks where service_id in (select id from old) returning id
        ), refused as (
          delete from tokens where hook_id in (select id from hooked)
        ), written as (
          delete from revisions where service_id in (select id from old)
        )
        delete from services where id in (select id from old) returning id`,
  );
}
