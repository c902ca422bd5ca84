import { sql } from "drizzle-orm";
import type { Queryable } from "../client.ts";
import { rowsOf } from "./rows.ts";

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
 * Starts the time of all lost hosts anew unless some host has a valid lease. Without such a witness it is as likely that Berth itself
 * was away as that the hosts were, and nothing may be replaced on that knowledge (I12).
 */
export async function restartLostClockWithoutWitness(q: Queryable): Promise<boolean> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`update hosts set lost_at = now()
        where state = 'lost' and not exists (select 1 from hosts where state <> 'lost' and lease_expires_at >= now())
        returning id`,
  );
  return rows.length > 0;
}

export interface LostHostRow {
  id: string;
  name: string;
  pool: string;
}

/** Hosts lost for longer than the grace time that still have sets to replace. */
export async function listHostsToReplace(
  q: Queryable,
  graceMs: number,
  limit: number,
): Promise<LostHostRow[]> {
  return rowsOf(
    q,
    sql`select h.id, h.name, h.pool from hosts h
        where h.state = 'lost' and h.lost_at < now() - make_interval(secs => ${graceMs / 1000}::float8)
          and exists (select 1 from sets s join services v on v.id = s.service_id
            where s.host_id = h.id and s.desired = 'running' and v.on_host_lost = 'replace')
        order by h.id limit ${limit}`,
  );
}

export async function countPoolHosts(
  q: Queryable,
  pool: string,
): Promise<{ total: number; lost: number }> {
  const rows = await rowsOf<{ total: number; lost: number }>(
    q,
    sql`select count(*)::int as total, (count(*) filter (where state = 'lost'))::int as lost from hosts where pool = ${pool}`,
  );
  return rows[0] ?? { total: 0, lost: 0 };
}

/** Services that are to be replaced off a lost host. */
export async function listServicesToReplace(
  q: Queryable,
  hostId: string,
  limit: number,
): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`select distinct v.id from sets s join services v on v.id = s.service_id
        where s.host_id = ${hostId} and s.desired = 'running' and v.on_host_lost = 'replace' order by v.id limit ${limit}`,
  );
  return rows.map((row) => row.id);
}

/**
 * Gives up a service's sets on a host that is still lost: new sets take their place, and the old ones are to be deleted the moment that
 * the host is back (the fence of I3). The service's and the host's rows are locked by the caller.
 */
export async function abandonLostSets(
  q: Queryable,
  serviceId: string,
  hostId: string,
): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`with bumped as (
          update hosts set generation = generation + 1 where id = ${hostId} and state = 'lost' returning generation
        )
        update sets set desired = 'deleted', state = 'lost', ready = false, generation = sets.generation + 1,
          host_generation = bumped.generation, updated_at = now()
        from bumped where host_id = ${hostId} and service_id = ${serviceId} and sets.desired = 'running'
        returning id`,
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

/**
 * Sets to move off draining hosts next: one of each service at a time, and only while all its other sets are settled, so that a
 * drain never takes a service below what it has.
 */
export async function listSetsToDrain(
  q: Queryable,
  limit: number,
): Promise<{ id: string; hostId: string }[]> {
  return rowsOf(
    q,
    sql`select distinct on (s.service_id) s.id, s.host_id as "hostId"
        from hosts h join sets s on s.host_id = h.id
        where h.draining and s.desired <> 'deleted' and not s.leaving
          and not exists (
            select 1 from sets o where o.service_id = s.service_id and o.deleted_at is null and o.id <> s.id
              and o.desired = 'running' and (o.leaving or o.state in ('pending', 'placed', 'preparing', 'starting')))
        order by s.service_id, s.id limit ${limit}`,
  );
}
