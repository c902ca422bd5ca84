import { and, eq, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { idempotencyKeys } from "../../schema/runtime.ts";
import { queryRows, secondsAgo } from "./query.ts";

export interface StoredAnswer {
  requestHash: string;
  status: number;
  body: string;
}

export type KeyClaim =
  | { state: "claimed" }
  | { state: "busy" }
  | { state: "answered"; answer: StoredAnswer };

/**
 * Claims a key for the rest of the transaction, without waiting. claimed: the key is new. busy:
 * another transaction holds it. answered: a request with this key has an answer. A claim without an
 * answer ends with its transaction.
 */
export async function claimIdempotencyKey(
  q: Queryable,
  scope: string,
  key: string,
): Promise<KeyClaim> {
  const locks = await queryRows<{ held: boolean }>(
    q,
    sql`select pg_try_advisory_xact_lock(hashtextextended(${`${scope} ${key}`}, 7134203)) as held`,
  );
  if (locks[0]?.held !== true) return { state: "busy" };
  // A separate statement: its snapshot is newer than the lock, so it sees the last holder's commit.
  const { requestHash, status, body } = idempotencyKeys;
  const [row] = await q
    .select({ requestHash, status, body })
    .from(idempotencyKeys)
    .where(and(eq(idempotencyKeys.scope, scope), eq(idempotencyKeys.key, key)));
  if (!row || row.status === null || row.body === null) return { state: "claimed" };
  return {
    state: "answered",
    answer: { requestHash: row.requestHash, status: row.status, body: row.body },
  };
}

/** Stores the answer under a claimed key. */
export async function insertIdempotencyKey(
  q: Queryable,
  scope: string,
  key: string,
  answer: StoredAnswer,
): Promise<void> {
  await q.execute(sql`
    insert into idempotency_keys (scope, key, request_hash, status, body)
    values (${scope}, ${key}, ${answer.requestHash}, ${answer.status}, ${answer.body})`);
}

/** Deletes at most `limit` keys older than `ageSeconds`, and returns their number. */
export async function deleteIdempotencyKeys(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await queryRows<{ key: string }>(
    q,
    sql`delete from idempotency_keys where ctid in (
          select ctid from idempotency_keys
          where created_at < ${secondsAgo(ageSeconds)} limit ${limit})
        returning key`,
  );
  return rows.length;
}
