import { type SQL, sql } from "drizzle-orm";
import { LEASE_SECONDS } from "../../../contracts/agent-protocol/protocol.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows } from "../runtime/query.ts";

/**
 * A ready host that synced within this time is a witness: it proves that hosts reach Berth. A
 * healthy host renews its lease at least every 16 s. A valid lease alone proves nothing, as it
 * outlives a failure of Berth by up to 45 s.
 */
const WITNESS_AGE_SECONDS_MAX = 25;

/**
 * A longer pause of the sweep counts as a gap: Postgres or all job workers were down. Agents retry
 * with exponential backoff, so after an outage of 10 s the last one returns within 21 s. The
 * shortest lease lasts 29 s.
 */
const SWEEP_PAUSE_SECONDS_MAX = 10;

/** The longest backoff of an agent between two syncs. */
const AGENT_BACKOFF_SECONDS_MAX = 30;

/** So long after a gap, each healthy agent has synced again. */
const RETURN_SECONDS_MAX = LEASE_SECONDS + AGENT_BACKOFF_SECONDS_MAX;

/** After so long without any sync, while the sweep runs, the states of all sets are unknown. */
const SILENCE_SECONDS_MAX = 300;

/** Returning hosts restart the grace period for at most this long after a gap. */
const RECOVERY_SECONDS_MAX = 600;

const hasWitness = sql`exists (select 1 from hosts where state = 'ready'
  and lease_expires_at >= now() + make_interval(secs => ${LEASE_SECONDS - WITNESS_AGE_SECONDS_MAX}))`;

/**
 * Records that the failover sweep watches the fleet, and the latest gap. In a gap no host was a
 * witness, or no job worker swept, so missing syncs prove nothing (I12). Returns whether a gap
 * exists now. Only the clock of the database decides (I16). All job workers may call it
 * concurrently.
 */
export async function recordFleetWatch(q: Queryable): Promise<{ isGap: boolean }> {
  const paused = sql`w.watched_at < now() - make_interval(secs => ${SWEEP_PAUSE_SECONDS_MAX})`;
  const rows = await queryRows<{ isGap: boolean }>(
    q,
    sql`with witness as materialized (select ${hasWitness} as seen)
        insert into fleet_watch as w (id, watched_at, gap_at, gap_started_at)
        select true, now(), case when not seen then now() end, case when not seen then now() end from witness
        on conflict (id) do update set watched_at = now(),
          gap_at = case when not (select seen from witness) or ${paused} then now() else w.gap_at end,
          gap_started_at = case when (select seen from witness) then null
            when ${paused} then now() else coalesce(w.gap_started_at, now()) end
        returning not (select seen from witness) as "isGap"`,
  );
  return rows[0] ?? { isGap: false };
}

/**
 * The host of this row did not renew its lease although it could. A host that has not synced since
 * a gap has the time of a lease and of a backoff to return (I12). Until then its sets count as
 * running, which they probably are. Call recordFleetWatch first.
 */
export const hasMissedLease = sql`(hosts.lease_expires_at < now() and coalesce((
  select gap_at < greatest(hosts.lease_expires_at - make_interval(secs => ${LEASE_SECONDS}),
      now() - make_interval(secs => ${RETURN_SECONDS_MAX}))
    or coalesce(gap_started_at < now() - make_interval(secs => ${SILENCE_SECONDS_MAX}), false)
  from fleet_watch), true))`;

/** How long a host may be down before its sets are replaced. */
export interface DownGracePeriods {
  lostMs: number;
  unhealthyMs: number;
  /** After a gap: several times the longest backoff of an agent, so that each agent has synced. */
  afterGapMs: number;
}

/**
 * Host `h` is down for longer than its grace period. A host that went down around a gap, or has not
 * synced since, has the longer period after a gap. That period starts at the end of the gap, and
 * restarts with each returning host.
 */
export function isDownPastGrace(grace: DownGracePeriods): SQL {
  const recoveringSince = sql`(select least(w.gap_at + make_interval(secs => ${RECOVERY_SECONDS_MAX}),
    greatest(w.gap_at, (select max(returned_at) from hosts where state = 'ready'))) from fleet_watch w)`;
  return sql`(h.state <> 'ready'
    and h.lost_at < now() - case h.state when 'lost' then ${milliseconds(grace.lostMs)} else ${milliseconds(grace.unhealthyMs)} end
    and (coalesce(least(h.lost_at, h.lease_expires_at) > (select gap_at + make_interval(secs => ${LEASE_SECONDS}) from fleet_watch), true)
      or coalesce(${recoveringSince} < now() - ${milliseconds(grace.afterGapMs)}, true)))`;
}

function milliseconds(ms: number): SQL {
  return sql`make_interval(secs => ${ms / 1_000}::float8)`;
}
