import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { asyncCommit, rowsOfWrite } from "./query.ts";

/**
 * Claims the turn of a sweep for the whole fleet. The claim expires after `leaseMs`, so a process
 * that dies in its turn delays the sweep by that time. Returns the expiry, which identifies the
 * claim, or undefined when another process holds the turn.
 */
export async function claimSweepTurn(
  q: Queryable,
  name: string,
  leaseMs: number,
): Promise<string | undefined> {
  const nextAt = sql`now() + ${interval(leaseMs)}`;
  const rows = await rowsOfWrite<{ expiry: string }>(
    q,
    sql`with claimed as (
          update sweep_turns set next_at = ${nextAt} where name = ${name} and next_at <= now()
          returning next_at
        ), added as (
          insert into sweep_turns (name, next_at)
          select ${name}, ${nextAt} where not exists (select 1 from sweep_turns where name = ${name})
          on conflict (name) do nothing returning next_at
        )
        select next_at::text as expiry from claimed union all select next_at::text from added`,
  );
  return rows[0]?.expiry;
}

/**
 * Extends a claim to `leaseMs` from now. Returns the new expiry, or undefined when the claim has
 * expired and another process has claimed the turn.
 */
export async function extendSweepTurn(
  q: Queryable,
  name: string,
  expiry: string,
  leaseMs: number,
): Promise<string | undefined> {
  const rows = await rowsOfWrite<{ expiry: string }>(
    q,
    sql`update sweep_turns set next_at = now() + ${interval(leaseMs)}
        where name = ${name} and next_at = ${expiry}::timestamptz and ${asyncCommit}
        returning next_at::text as expiry`,
  );
  return rows[0]?.expiry;
}

/** Ends a claim. The next turn may begin `nextInMs` from now. */
export async function endSweepTurn(
  q: Queryable,
  name: string,
  expiry: string,
  nextInMs: number,
): Promise<void> {
  await rowsOfWrite(
    q,
    sql`update sweep_turns set next_at = now() + ${interval(nextInMs)}
        where name = ${name} and next_at = ${expiry}::timestamptz and ${asyncCommit}`,
  );
}

function interval(ms: number) {
  return sql`make_interval(secs => ${ms / 1_000}::float8)`;
}
