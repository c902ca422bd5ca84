import { type SQL, sql } from "drizzle-orm";
import { LEASE_SECONDS } from "../../../contracts/agent-protocol/protocol.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows, secondsAgo, secondsFromNow } from "../runtime/query.ts";

/**
 * A ready host that synced within this time shows that hosts can reach Berth. A healthy host renews
 * its lease at least every 16 s. A valid lease alone shows nothing, because it outlives a failure
 * of Berth by up to 45 s.
 */
const SYNC_AGE_SECONDS_MAX = 25;

/**
 * A longer pause of the watch counts as a control-plane outage: Postgres or all job workers were
 * down. Agents retry with exponential backoff, so after an outage of 10 s the last one returns
 * within 21 s. The shortest lease lasts 29 s.
 */
const WATCH_PAUSE_SECONDS_MAX = 10;

/** A younger record needs no other one. */
const WATCH_AGE_SECONDS_MAX = 2;

/** The longest backoff of an agent between two syncs. */
const AGENT_BACKOFF_SECONDS_MAX = 30;

/** Each healthy agent has synced again within this time after an outage. */
const RETURN_SECONDS_MAX = LEASE_SECONDS + AGENT_BACKOFF_SECONDS_MAX;

/** If no host syncs for this time during the watch, the states of all sets are unknown. */
const SILENCE_SECONDS_MAX = 300;

/** Returning hosts restart the grace period for at most this time after an outage. */
const RECOVERY_SECONDS_MAX = 600;

const recentlySyncedHostSql = sql`exists (select 1 from hosts where state = 'ready'
  and lease_expires_at >= ${secondsFromNow(LEASE_SECONDS - SYNC_AGE_SECONDS_MAX)})`;

/** Whether no job worker has recorded the watch recently. */
export async function isFleetWatchDue(q: Queryable): Promise<boolean> {
  const rows = await queryRows<{ isDue: boolean }>(
    q,
    sql`select watched_at < ${secondsAgo(WATCH_AGE_SECONDS_MAX)} as "isDue" from fleet_watch`,
  );
  return rows[0]?.isDue ?? true;
}

/**
 * Records that a job worker watches the fleet, and the latest control-plane outage: a period
 * without a recently synced host, or without the watch. During an outage, missing syncs do not show
 * that a host is down (I12). Returns whether an outage is in progress. All times are those of the
 * database clock (I16). All job workers may call it concurrently.
 *
 * While an outage continues, each record sets its end to the time of the record. The previous
 * release does so too, but keeps the start of an outage that has ended.
 */
export async function recordFleetWatch(q: Queryable): Promise<{ isOutage: boolean }> {
  const paused = sql`w.watched_at < ${secondsAgo(WATCH_PAUSE_SECONDS_MAX)}`;
  const rows = await queryRows<{ isOutage: boolean }>(
    q,
    sql`with recent as materialized (select ${recentlySyncedHostSql} as found)
        insert into fleet_watch as w (id, watched_at, gap_at, gap_started_at)
        select true, now(), case when not found then now() end, case when not found then now() end from recent
        on conflict (id) do update set watched_at = now(),
          gap_at = case when not (select found from recent) or ${paused} then now() else w.gap_at end,
          gap_started_at = case when (select found from recent) then null
            when ${paused} or w.gap_at is distinct from w.watched_at then now() else coalesce(w.gap_started_at, now()) end
        returning not (select found from recent) as "isOutage"`,
  );
  return rows[0] ?? { isOutage: false };
}

/**
 * SQL condition: the host of this row could have renewed its lease and did not. After an outage, a
 * host has the time of one lease and one backoff to sync again (I12). Until then Berth assumes that
 * its sets run. Call recordFleetWatch first.
 */
export const missedLeaseSql = sql`(hosts.lease_expires_at < now() and coalesce((
  select gap_at < greatest(hosts.lease_expires_at - make_interval(secs => ${LEASE_SECONDS}),
      ${secondsAgo(RETURN_SECONDS_MAX)})
    or coalesce(gap_started_at < ${secondsAgo(SILENCE_SECONDS_MAX)}, false)
  from fleet_watch), true))`;

/** How long a host may be down before its sets are replaced. */
export interface DownGracePeriods {
  lostMs: number;
  unhealthyMs: number;
  /**
   * After an outage: several times the longest backoff of an agent, so that each one has synced.
   */
  afterOutageMs: number;
}

/**
 * SQL condition: host `h` is down for longer than its grace period. If it went down around an
 * outage, or has not synced since, the longer period after an outage applies. That period starts at
 * the end of the outage, and restarts with each returning host.
 */
export function downPastGraceSql(grace: DownGracePeriods): SQL {
  const recoveringSince = sql`(select least(w.gap_at + make_interval(secs => ${RECOVERY_SECONDS_MAX}),
    greatest(w.gap_at, (select max(returned_at) from hosts where state = 'ready'))) from fleet_watch w)`;
  return sql`(h.state <> 'ready'
    and h.lost_at < now() - case h.state when 'lost' then ${milliseconds(grace.lostMs)} else ${milliseconds(grace.unhealthyMs)} end
    and (coalesce(least(h.lost_at, h.lease_expires_at) > (select gap_at + make_interval(secs => ${LEASE_SECONDS}) from fleet_watch), true)
      or coalesce(${recoveringSince} < now() - ${milliseconds(grace.afterOutageMs)}, true)))`;
}

function milliseconds(ms: number): SQL {
  return sql`make_interval(secs => ${ms / 1_000}::float8)`;
}
