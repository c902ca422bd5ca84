import { type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rowsOf } from "../runtime/query.ts";

/** Marks hosts lost whose lease ran out. Their sets stop counting as ready, and keep running for all anybody knows. */
export async function markExpiredHostsLost(
  q: Queryable,
  limit: number,
): Promise<{ id: string; name: string }[]> {
  return rowsOf(
    q,
    sql`with expired as (
          select id from hosts where state <> 'lost' and lease_expires_at < now() order by id limit ${limit} for update skip locked
        ), marked as (
          update hosts set state = 'lost', lost_at = now(), resync_required = true,
            reason = jsonb_build_object('code', 'lease-expired', 'text', 'The agent has not been heard of since its lease ran out.')
          where id in (select id from expired) returning id, name
        ), silent as (
          update sets set state = 'lost', ready = false, updated_at = now(),
            reason = jsonb_build_object('code', 'host-lost', 'text', 'Its host is lost: nothing is known of it.', 'phase', 'run')
          where host_id in (select id from marked) and desired = 'running' and state <> 'lost'
        )
        select id, name from marked`,
  );
}

/**
 * Starts the time of all hosts that are out anew unless some host is ready with a valid lease. Without such a witness it is as likely that Berth
 * itself was away as that the hosts were, and nothing may be replaced on that knowledge (I12). Nor is there anywhere to go.
 */
export async function restartOutClockWithoutWitness(q: Queryable): Promise<boolean> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`update hosts set lost_at = now()
        where state <> 'ready' and not exists (select 1 from hosts where state = 'ready' and lease_expires_at >= now())
        returning id`,
  );
  return rows.length > 0;
}

export interface OutHostRow {
  id: string;
  name: string;
  pool: string;
  /** lost: nobody hears of it. unhealthy: its agent is heard, and can neither see nor change anything there. */
  state: "lost" | "unhealthy";
}

/** How long a host may be out, by its state, before its sets are replaced. */
export interface OutGrace {
  lostMs: number;
  unhealthyMs: number;
}

function isOutForLong({ lostMs, unhealthyMs }: OutGrace): SQL {
  return sql`h.state <> 'ready' and h.lost_at < now() - make_interval(
    secs => case h.state when 'lost' then ${lostMs / 1000}::float8 else ${unhealthyMs / 1000}::float8 end)`;
}

/**
 * Sets that are to be replaced off such a host, as their services say. One whose start was given up there has nothing to wait for: it
 * was to leave already, and that nothing of it is there, which would end its booking, cannot be seen.
 */
const isToReplace = sql`s.desired = 'running' and (v.on_host_lost = 'replace' or (s.leaving and s.attempts > 0))`;

/** Hosts that are out for longer than the grace time and still have sets to replace. */
export async function listHostsToReplace(
  q: Queryable,
  grace: OutGrace,
  limit: number,
): Promise<OutHostRow[]> {
  return rowsOf(
    q,
    // Those hosts first: there are none nearly always.
    sql`with gone as materialized (select id, name, pool, state from hosts h where ${isOutForLong(grace)})
        select h.id, h.name, h.pool, h.state from gone h
        where exists (select 1 from sets s join services v on v.id = s.service_id
            where s.host_id = h.id and ${isToReplace})
        order by h.id limit ${limit}`,
  );
}

export async function countPoolHosts(
  q: Queryable,
  pool: string,
): Promise<{ total: number; out: number }> {
  const rows = await rowsOf<{ total: number; out: number }>(
    q,
    sql`select count(*)::int as total, (count(*) filter (where state <> 'ready'))::int as out from hosts where pool = ${pool}`,
  );
  return rows[0] ?? { total: 0, out: 0 };
}

/** Tells, once an outage, that a host's sets are not replaced. Gives whether it was news. (Index events_host.) */
export async function insertReplacementHeld(
  q: Queryable,
  hostId: string,
  text: string,
): Promise<boolean> {
  const rows = await rowsOf<{ id: number }>(
    q,
    sql`insert into events (kind, text, host_id)
        select 'replacement-held', ${text}::text, h.id from hosts h
        where h.id = ${hostId} and not exists (
          select 1 from events e where e.host_id = h.id and e.kind = 'replacement-held' and e.at >= h.lost_at)
        returning id`,
  );
  return rows.length > 0;
}

/** Services that have sets to replace off a host. */
export async function listServicesToReplace(
  q: Queryable,
  hostId: string,
  limit: number,
): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`select distinct v.id from sets s join services v on v.id = s.service_id
        where s.host_id = ${hostId} and ${isToReplace} order by v.id limit ${limit}`,
  );
  return rows.map((row) => row.id);
}

/**
 * Gives up a service's sets on a host that is still out: new sets take their place, and the old ones are to be deleted the moment that
 * the host is back (the fence of I3). The service's and the host's rows are locked by the caller.
 */
export async function abandonSets(
  q: Queryable,
  serviceId: string,
  hostId: string,
  grace: OutGrace,
): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`with bumped as (
          update hosts h set generation = generation + 1 where id = ${hostId} and ${isOutForLong(grace)} returning generation
        )
        update sets s set desired = 'deleted', state = 'lost', ready = false, generation = s.generation + 1,
          host_generation = bumped.generation, updated_at = now()
        from bumped, services v
        where s.host_id = ${hostId} and s.service_id = ${serviceId} and v.id = s.service_id and ${isToReplace}
        returning s.id`,
  );
  return rows.map((row) => row.id);
}

/** Whether sets may be put on a host, and whether they are being taken off. */
export async function updateHostAdmission(
  q: Queryable,
  hostId: string,
  admission: { cordoned: boolean; draining: boolean },
): Promise<{ name: string; changed: boolean } | undefined> {
  const rows = await rowsOf<{ name: string; changed: boolean }>(
    q,
    sql`with before as (select id, name, cordoned, draining from hosts where id = ${hostId} for update)
        update hosts h set cordoned = ${admission.cordoned}, draining = ${admission.draining} from before b
        where h.id = b.id
        returning b.name, (b.cordoned <> ${admission.cordoned} or b.draining <> ${admission.draining}) as changed`,
  );
  return rows[0];
}

/** Another generation each time, so that of two who read the same only one changes it. False: there is no such host. */
export async function updateHostLabels(
  q: Queryable,
  hostId: string,
  generation: number | undefined,
  change: {
    labels?: Record<string, string> | undefined;
    taints?: { key: string; value: string }[] | undefined;
  },
): Promise<boolean> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`update hosts set
          labels = coalesce(${change.labels === undefined ? null : JSON.stringify(change.labels)}::jsonb, labels),
          taints = coalesce(${change.taints === undefined ? null : JSON.stringify(change.taints)}::jsonb, taints),
          generation = generation + 1
        where id = ${hostId} and generation = coalesce(${generation ?? null}::bigint, generation) returning id`,
  );
  return rows.length === 1;
}
