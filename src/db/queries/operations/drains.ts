import { eq, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { drains } from "../../schema/operations.ts";
import { queryRows, secondsFromNow } from "../runtime/query.ts";

export interface DrainOptions {
  /** Undefined if the drain has no deadline. */
  deadlineSeconds: number | undefined;
  isForced: boolean;
  discardsVolumes: boolean;
}

/**
 * Stores the options of a drain. A repeated drain replaces them, including the consent to lose
 * volume data, which the moves of the drain read here.
 */
export async function upsertDrain(
  q: Queryable,
  hostId: string,
  { deadlineSeconds, isForced, discardsVolumes }: DrainOptions,
): Promise<void> {
  await q.execute(
    sql`with stored as (
          insert into drains (host_id, deadline_at, is_forced, discards_volumes)
          values (${hostId}, ${secondsFromNow(deadlineSeconds ?? null)}, ${isForced}, ${discardsVolumes})
          on conflict (host_id) do update set deadline_at = excluded.deadline_at, is_forced = excluded.is_forced,
            discards_volumes = excluded.discards_volumes, reported_at = null, created_at = now()
        )
        update operations set due_at = now(), attempts = 0
        where drain_host_id = ${hostId} and owner = 'drain' and phase = 'waiting'`,
  );
}

export async function deleteDrain(q: Queryable, hostId: string): Promise<void> {
  await q.delete(drains).where(eq(drains.hostId, hostId));
}

/**
 * Turns resizes and updates that their agents have not applied into moves, at most `limit`. It does
 * so after a forced drain of their host has passed its deadline. The sets move with the size or the
 * revision of the operation. Their bookings stay as they are until they leave. If the drain ends
 * before, the resize is applied again.
 */
export async function interruptResizesForDrains(q: Queryable, limit: number): Promise<void> {
  await q.execute(
    sql`with forced as (
          select o.set_id, d.host_id from operations o join sets s on s.id = o.set_id
            join drains d on d.host_id = s.host_id join hosts h on h.id = d.host_id
          where o.phase in ('applying', 'reverting', 'updating') and h.draining and d.is_forced
            and coalesce(d.deadline_at, d.created_at) <= now()
          order by o.set_id limit ${limit} for update of o skip locked
        )
        update operations o set kind = 'move', phase = 'waiting', owner = 'drain', drain_host_id = forced.host_id,
          blocked = null, attempts = 0, due_at = now()
        from forced where o.set_id = forced.set_id`,
  );
}

/** Lists, once, each drain that missed its deadline. */
export async function listMissedDrains(
  q: Queryable,
): Promise<{ hostId: string; hostName: string; isForced: boolean; sets: number }[]> {
  return queryRows(
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
