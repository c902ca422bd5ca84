import { sql } from "drizzle-orm";
import type { EndedOperation } from "../../../contracts/api/operations.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/** Ends operations. Stores with the set an outcome that users should see. */
export async function endOperations(
  q: Queryable,
  setIds: readonly string[],
  ended: EndedOperation | null = null,
): Promise<void> {
  if (setIds.length === 0) return;
  await q.execute(
    sql`with done as (delete from operations where set_id = ${anyOf(setIds)} returning set_id)
        update sets s set last_operation = ${ended === null ? null : JSON.stringify(ended)}::jsonb
        from done where s.id = done.set_id and s.last_operation is distinct from ${ended === null ? null : JSON.stringify(ended)}::jsonb`,
  );
}

/**
 * Ends operations of a service that wait past their deadline, at most `limit`. Returns their sets.
 */
export async function expireOperations(
  q: Queryable,
  serviceId: string,
  ended: EndedOperation,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with expired as materialized (
          select set_id, kind, cpu_millis from operations
          where service_id = ${serviceId} and phase = 'waiting' and deadline_at <= now()
          order by set_id limit ${limit} for update skip locked
        ), resized as (
          update operations o set ${asResize} from expired e
          where o.set_id = e.set_id and e.kind = 'move' and e.cpu_millis is not null
        ), deleted as (
          delete from operations o using expired e
          where o.set_id = e.set_id and not (e.kind = 'move' and e.cpu_millis is not null)
        )
        update sets s set last_operation = ${JSON.stringify(ended)}::jsonb from expired e where s.id = e.set_id returning s.id`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Cancels the waiting moves of drains that have ended. A move whose set was resized meanwhile
 * becomes a resize, so that the new size is not lost. The `moves` sweep also calls it, because a
 * move may be inserted while the drain ends.
 */
export async function cancelDrainMoves(q: Queryable, limit: number): Promise<void> {
  await q.execute(
    sql`with ended as (
          select o.set_id, o.cpu_millis from operations o
          where o.owner = 'drain' and o.phase = 'waiting'
            and not exists (select 1 from hosts h where h.id = o.drain_host_id and h.draining)
          order by o.set_id limit ${limit} for update of o skip locked
        ), resized as (
          update operations o set ${asResize} from ended e where o.set_id = e.set_id and e.cpu_millis is not null
        )
        delete from operations o using ended e where o.set_id = e.set_id and e.cpu_millis is null`,
  );
}

/**
 * Columns of a move, or of an update, that ends although its set still needs the size with which it
 * would end.
 */
export const asResize = sql.raw(
  `kind = 'resize', phase = 'waiting', rollout_id = null, restarts = false, to_revision = null, owner = 'resize', drain_host_id = null, discards_volume = false, deadline_at = null, blocked = null, attempts = 0, due_at = now()`,
);

/**
 * Deletes operations that another change superseded without ending them: a removal, or a move that
 * the previous release finished during an upgrade.
 */
export async function deleteOrphanedOperations(q: Queryable): Promise<void> {
  await q.execute(
    sql`delete from operations o using sets s where s.id = o.set_id
          and (s.deleted_at is not null or s.desired = 'deleted' or (o.phase = 'leaving' and not s.leaving))`,
  );
}
