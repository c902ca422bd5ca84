import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rowsOf } from "../runtime/query.ts";

export interface DrainOptions {
  /** Undefined: none. */
  deadlineSeconds: number | undefined;
  isForced: boolean;
  discardsVolumes: boolean;
}

/**
 * Stores how an operator wants a host drained. A repeated drain replaces the options, also the
 * consent to lose volume data: the moves of a drain read it here.
 */
export async function upsertDrain(
  q: Queryable,
  hostId: string,
  { deadlineSeconds, isForced, discardsVolumes }: DrainOptions,
): Promise<void> {
  await q.execute(
    sql`with stored as (
          insert into drains (host_id, deadline_at, is_forced, discards_volumes)
          values (${hostId}, now() + make_interval(secs => ${deadlineSeconds ?? null}::float8), ${isForced}, ${discardsVolumes})
          on conflict (host_id) do update set deadline_at = excluded.deadline_at, is_forced = excluded.is_forced,
            discards_volumes = excluded.discards_volumes, reported_at = null, created_at = now()
        )
        update operations set due_at = now(), attempts = 0
        where drain_host_id = ${hostId} and owner = 'drain' and phase = 'waiting'`,
  );
}

export async function deleteDrain(q: Queryable, hostId: string): Promise<void> {
  await q.execute(sql`delete from drains where host_id = ${hostId}`);
}

/** Drains that missed their deadline and were not reported yet; each is given once. */
export async function listMissedDrains(
  q: Queryable,
): Promise<{ hostId: string; hostName: string; isForced: boolean; sets: number }[]> {
  return rowsOf(
    q,
    sql`with missed as (
          select d.host_id, d.is_forced, (select count(*)::int from sets s where s.host_id = d.host_id) as sets
          from drains d where d.deadline_at <= now() and d.reported_at is null
          order by d.host_id limit 100 for update of d skip locked
        ), reported as (
          update drains set reported_at = now() where host_id in (select host_id from missed)
        ), woken as (
          update operations set due_at = now() where drain_host_id in (select host_id from missed) and phase = 'waiting'
        )
        select h.id as "hostId", h.name as "hostName", m.is_forced as "isForced", m.sets
        from missed m join hosts h on h.id = m.host_id where m.sets > 0`,
  );
}
