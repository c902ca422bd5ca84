import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { asyncCommit, runWrite } from "./query.ts";

/**
 * Claims a lease for `leaseMs`, by the clock of Postgres. A holder that dies keeps it for that
 * time. Returns the expiry, which identifies the claim, or undefined while another process holds
 * the lease.
 */
export async function claimSweepLease(
  q: Queryable,
  name: string,
  leaseMs: number,
): Promise<string | undefined> {
  const expiry = sql`now() + ${interval(leaseMs)}`;
  const rows = await runWrite<{ expiry: string }>(
    q,
    sql`with claimed as (
          update sweep_turns set next_at = ${expiry} where name = ${name} and next_at <= now()
          returning next_at
        ), added as (
          insert into sweep_turns (name, next_at)
          select ${name}, ${expiry} where not exists (select 1 from sweep_turns where name = ${name})
          on conflict (name) do nothing returning next_at
        )
        select next_at::text as expiry from claimed union all select next_at::text from added`,
  );
  return rows[0]?.expiry;
}

/**
 * Renews a claim for `leaseMs` from now. Returns the new expiry, or undefined when the claim has
 * expired and another process has claimed the lease.
 */
export async function renewSweepLease(
  q: Queryable,
  name: string,
  expiry: string,
  leaseMs: number,
): Promise<string | undefined> {
  const rows = await runWrite<{ expiry: string }>(
    q,
    sql`update sweep_turns set next_at = now() + ${interval(leaseMs)}
        where name = ${name} and next_at = ${expiry}::timestamptz and ${asyncCommit}
        returning next_at::text as expiry`,
  );
  return rows[0]?.expiry;
}

/** Releases a claim. Another process may claim the lease immediately. */
export async function releaseSweepLease(q: Queryable, name: string, expiry: string): Promise<void> {
  await runWrite(
    q,
    sql`update sweep_turns set next_at = now()
        where name = ${name} and next_at = ${expiry}::timestamptz and ${asyncCommit}`,
  );
}

function interval(ms: number) {
  return sql`make_interval(secs => ${ms / 1_000}::float8)`;
}
