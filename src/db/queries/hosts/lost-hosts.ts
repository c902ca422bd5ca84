import { type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rowsOf } from "../runtime/query.ts";
import { hasVolumeData } from "../volumes/volumes.ts";
import { DOCKER_UNREACHABLE, VOLUME_HOST_LOST } from "./write-hosts.ts";

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
 * Set `s` on down host `h` has data that a replacement would not have. A down host cannot report a new volume, so every
 * set with a volume counts that its agent has accepted. A set that leaves its host has given up its volume before.
 */
const waitsForVolume = sql`(not s.leaving
  and (${hasVolumeData} or (s.volume_bytes > 0 and s.host_generation <= h.accepted_generation)))`;

/**
 * Set `s` of service `v` on down host `h` gets a replacement, as the service's policy says. Only a policy that names the
 * data loss replaces a set with volume data (I13). A set whose start failed there for good was leaving anyway.
 */
const isToReplace = sql`s.desired = 'running' and (v.on_host_lost = 'replace-without-data'
  or (v.on_host_lost = 'replace' and not ${waitsForVolume}) or (s.leaving and s.attempts > 0))`;

/** Hosts that are out for longer than the grace time and still have sets to replace. */
export async function listHostsToReplace(
  q: Queryable,
  grace: OutGrace,
  limit: number,
): Promise<OutHostRow[]> {
  return rowsOf(
    q,
    // Those hosts first: there are none nearly always.
    sql`with gone as materialized (select id, name, pool, state, accepted_generation from hosts h where ${isOutForLong(grace)})
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

/** A set that waits for its host, and what its event needs. */
export interface HeldSetRow {
  setId: string;
  tenantId: string;
  serviceId: string;
  hostId: string;
  text: string;
}

/**
 * Stores with sets that wait for their down hosts that their volume data is there (I5, I13). Returns those that did not say
 * so yet, at most `limit`. A set whose host has reported it meanwhile no longer matches.
 */
export async function holdSetsWithVolumeData(
  q: Queryable,
  grace: OutGrace,
  limit: number,
): Promise<HeldSetRow[]> {
  return rowsOf(
    q,
    sql`with down as materialized (select id, name, state, accepted_generation from hosts h where ${isOutForLong(grace)}),
        waiting as (
          select s.id, h.name as host_name, h.state as host_state
          from down h join sets s on s.host_id = h.id join services v on v.id = s.service_id
          where s.desired = 'running' and ${waitsForVolume} and not (${isToReplace}) and ${isSilent}
            and s.reason->>'code' is distinct from ${VOLUME_HOST_LOST}
          order by s.id limit ${limit} for update of s skip locked
        )
        update sets s set updated_at = now(), reason = jsonb_build_object('code', ${VOLUME_HOST_LOST}::text, 'phase', 'run',
          'text', 'The set waits for ' || w.host_name || ', which has its volume and '
            || case w.host_state when 'lost' then 'is lost' else 'has a Docker daemon that does not answer' end
            || '. To start it elsewhere with an empty volume, set onHostLost to replace-without-data.',
          'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        from waiting w where s.id = w.id
        returning s.id as "setId", s.tenant_id as "tenantId", s.service_id as "serviceId", s.host_id as "hostId",
          s.reason->>'text' as text`,
  );
}

/** Nothing that its host has reported since it went down: what this module writes over. */
const isSilent = sql`(s.state = 'lost' or s.reason->>'code' = ${DOCKER_UNREACHABLE})`;

/** Services that have sets to replace off a host. */
export async function listServicesToReplace(
  q: Queryable,
  hostId: string,
  limit: number,
): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`select distinct v.id from sets s join services v on v.id = s.service_id join hosts h on h.id = s.host_id
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
        from bumped, services v, hosts h
        where h.id = s.host_id and s.host_id = ${hostId} and s.service_id = ${serviceId} and v.id = s.service_id and ${isToReplace}
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
