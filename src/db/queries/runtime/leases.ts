import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { asyncCommit, runWrite, secondsFromNow } from "./query.ts";

/**
 * Claims a lease for `leaseMs`, by the clock of Postgres. A holder that dies keeps it for that
 * time. Returns false while another holder has it.
 * @param holder identifies the claim, and is unique
 */
export async function claimSweepLease(
  q: Queryable,
  name: string,
  holder: string,
  leaseMs: number,
): Promise<boolean> {
  const expiry = secondsFromNow(leaseMs / 1_000);
  const rows = await runWrite<{ name: string }>(
    q,
    sql`with claimed as (
          update sweep_turns set next_at = ${expiry}, holder = ${holder} where name = ${name} and next_at <= now()
          returning name
        ), added as (
          insert into sweep_turns (name, next_at, holder)
          select ${name}, ${expiry}, ${holder} where not exists (select 1 from sweep_turns where name = ${name})
          on conflict (name) do nothing returning name
        )
        select name from claimed union all select name from added`,
  );
  return rows.length === 1;
}

/**
 * Renews a claim for `leaseMs` from now. Returns false when the claim has expired and another
 * holder has claimed the lease. A repeated renewal after a lost answer succeeds.
 */
export async function renewSweepLease(
  q: Queryable,
  name: string,
  holder: string,
  leaseMs: number,
): Promise<boolean> {
  const rows = await runWrite<{ name: string }>(
    q,
    sql`update sweep_turns set next_at = ${secondsFromNow(leaseMs / 1_000)}
        where name = ${name} and holder = ${holder} and ${asyncCommit} returning name`,
  );
  return rows.length === 1;
}

/** Releases a claim. Another process may claim the lease immediately. */
export async function releaseSweepLease(q: Queryable, name: string, holder: string): Promise<void> {
  await runWrite(
    q,
    sql`update sweep_turns set next_at = now(), holder = null
        where name = ${name} and holder = ${holder} and ${asyncCommit}`,
  );
}
