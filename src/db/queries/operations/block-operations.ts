import { sql } from "drizzle-orm";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows, secondsFromNow } from "../runtime/query.ts";

/**
 * Stores why operations wait, and when they are due again. Returns the sets whose reason has
 * changed.
 */
export async function blockOperations(
  q: Queryable,
  blocked: readonly { setId: string; reason: Reason; retryAfterMs: number }[],
): Promise<string[]> {
  if (blocked.length === 0) return [];
  const rows = await queryRows<{ id: string; isNews: boolean }>(
    q,
    sql`with wanted as (
          select w.*, o.blocked->>'code' is distinct from w.reason->>'code' as is_news
          from json_to_recordset(${JSON.stringify(blocked)}::json) as w("setId" text, reason jsonb, "retryAfterMs" float8)
          join operations o on o.set_id = w."setId"
        )
        update operations o set blocked = w.reason, attempts = least(o.attempts + 1, 1000),
          due_at = now() + make_interval(secs => w."retryAfterMs" / 1000)
        from wanted w where o.set_id = w."setId" returning o.set_id as id, w.is_news as "isNews"`,
  );
  return rows.filter(({ isNews }) => isNews).map(({ id }) => id);
}

/**
 * Lets an operation wait again after its replacement missed its deadline. The record of an update
 * waits too, so that no deadline runs.
 */
export async function waitAgain(
  q: Queryable,
  setId: string,
  { reason, retryAfterMs }: { reason: Reason; retryAfterMs: number },
): Promise<void> {
  await q.execute(
    sql`with noted as (
          update rollout_sets set replacement_set_id = null, began_at = null, ready_at = null where set_id = ${setId} and ended_at is null
        )
        update operations set phase = 'waiting', replacement_set_id = null, blocked = ${JSON.stringify(reason)}::jsonb,
          attempts = least(attempts + 1, 1000), due_at = ${secondsFromNow(retryAfterMs / 1000)}
        where set_id = ${setId}`,
  );
}

/**
 * Makes waiting operations of a service due, because something that they wait for has changed: at
 * most `limit`, those with the fewest attempts first.
 */
export async function wakeOperations(
  q: Queryable,
  serviceId: string,
  limit: number,
): Promise<void> {
  await q.execute(
    sql`update operations set due_at = now() where set_id in (
          select set_id from operations where service_id = ${serviceId} and phase = 'waiting' and due_at > now()
          order by attempts, set_id limit ${limit})`,
  );
}
