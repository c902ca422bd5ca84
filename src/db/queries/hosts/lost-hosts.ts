import { sql } from "drizzle-orm";
import { renderReasonText } from "../../../contracts/api/reason-texts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { leavingSetSql } from "../operations/operation-conditions.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import { volumeDataSql } from "../volumes/volumes.ts";
import { type DownGracePeriods, missedLeaseSql, downPastGraceSql } from "./fleet-watch.ts";
import { DOCKER_UNREACHABLE, VOLUME_HOST_LOST } from "./write-hosts.ts";

/**
 * Marks hosts with a missed lease as lost, at most `limit`. Returns them with the services of the
 * sets that were not lost before, and of their ports as gateways. The sets are no longer ready, but
 * their containers may still run.
 */
export async function markExpiredHostsLost(
  q: Queryable,
  limit: number,
): Promise<{ id: string; name: string; serviceIds: string[] }[]> {
  return queryRows(
    q,
    sql`with expired as (
          select id from hosts where state <> 'lost' and ${missedLeaseSql} order by id limit ${limit} for no key update skip locked
        ), marked as (
          update hosts set state = 'lost', lost_at = coalesce(lost_at, now()), resync_required = true,
            reason = jsonb_build_object('code', 'lease-expired', 'text', ${renderReasonText("lease-expired", {})}::text)
          where id in (select id from expired) returning id, name
        ), silent as (
          update sets set state = 'lost', ready = false, updated_at = now(),
            reason = jsonb_build_object('code', 'host-lost', 'text', ${renderReasonText("host-lost", {})}::text, 'phase', 'run')
          where host_id in (select id from marked) and desired = 'running' and state <> 'lost' returning host_id, service_id
        )
        select id, name, array_to_json(array(select service_id from silent where host_id = marked.id
          union select service_id from host_ports where host_id = marked.id and service_id is not null)) as "serviceIds" from marked`,
  );
}

export interface DownHostRow {
  id: string;
  name: string;
  pool: string;
  state: "lost" | "unhealthy";
  downSinceMs: number;
  isPastGrace: boolean;
  hasSetsToReplace: boolean;
  hasSetsToRun: boolean;
  /** The replacement of its sets is already paused. */
  isHeld: boolean;
}

/**
 * SQL condition: set `s` on down host `h` has data that a replacement would lack. A down host
 * cannot report a new volume, so every set with a volume counts if the agent has accepted the set.
 * A departing set does not count: it had no volume data, or its move accepted the loss.
 */
const boundToVolumeSql = sql`(not ${leavingSetSql}
  and (${volumeDataSql} or (s.volume_bytes > 0 and s.host_generation <= h.accepted_generation)))`;

/**
 * SQL condition: the policy of service `v` replaces set `s` on down host `h`. Only a policy that
 * explicitly accepts the loss of data replaces a set with volume data (I13). A set that departs
 * after failed starts is always replaced.
 */
const replaceableSetSql = sql`s.desired = 'running' and (v.on_host_lost = 'replace-without-data'
  or (v.on_host_lost = 'replace' and not ${boundToVolumeSql}) or (${leavingSetSql} and s.attempts > 0))`;

/** Lists at most `limit` down hosts, ordered by the time at which they went down. */
export async function listDownHosts(
  q: Queryable,
  grace: DownGracePeriods,
  limit: number,
): Promise<DownHostRow[]> {
  return queryRows(
    q,
    sql`with down as materialized (
          select h.*, ${downPastGraceSql(grace)} as is_past_grace from hosts h where h.state <> 'ready' order by h.lost_at, h.id limit ${limit}
        )
        select h.id, h.name, h.pool, h.state, (extract(epoch from h.lost_at) * 1000)::float8 as "downSinceMs",
          h.is_past_grace as "isPastGrace", h.held_at is not null as "isHeld",
          exists (select 1 from sets s where s.host_id = h.id and s.desired = 'running') as "hasSetsToRun",
          h.is_past_grace and exists (select 1 from sets s join services v on v.id = s.service_id
            where s.host_id = h.id and ${replaceableSetSql}) as "hasSetsToReplace"
        from down h order by h.lost_at, h.id`,
  );
}

export async function countReadyHostsByPool(q: Queryable): Promise<Map<string, number>> {
  const rows = await queryRows<{ pool: string; count: number }>(
    q,
    sql`select pool, count(*)::int as count from hosts where state = 'ready' group by pool`,
  );
  return new Map(rows.map(({ pool, count }) => [pool, count]));
}

/**
 * Stores that the replacement of the sets on these hosts is paused. Returns the hosts for which it
 * was not paused before.
 */
export async function markReplacementHeld(
  q: Queryable,
  hostIds: readonly string[],
): Promise<string[]> {
  if (hostIds.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`update hosts set held_at = now() where id in (
          select id from hosts where id = ${anyOf(hostIds)} and held_at is null and state <> 'ready'
          order by id for no key update skip locked)
        returning id`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Ends the pause for all other hosts. A host that becomes ready ends its own pause.
 */
export async function endReplacementHolds(
  q: Queryable,
  heldHostIds: readonly string[],
): Promise<void> {
  // The next round handles locked hosts: waiting for them here would violate the lock order.
  await q.execute(sql`update hosts set held_at = null where id in (
    select id from hosts where held_at is not null
      and not id = any (array(select value from json_array_elements_text(${JSON.stringify(heldHostIds)}::json)))
    order by id for no key update skip locked)`);
}

/**
 * Counts down hosts whose sets are not replaced because too many hosts are down. (Index
 * hosts_held.)
 */
export async function countHeldHosts(q: Queryable): Promise<number> {
  const rows = await queryRows<{ count: number }>(
    q,
    sql`select count(*)::int as count from hosts where held_at is not null`,
  );
  return rows[0]?.count ?? 0;
}

/** A set that waits for its host, with the data for its event. */
export interface HeldSetRow {
  setId: string;
  tenantId: string;
  serviceId: string;
  hostId: string;
  explanation: string;
}

/** The text for Postgres' format(), which inserts the name of the host. */
const waitText = (cause: "host-lost" | "docker-unresponsive") =>
  renderReasonText(VOLUME_HOST_LOST, { host: "%s", cause });

/** SQL condition: the host of set `s` has reported nothing about the set since it went down. */
const silentSetSql = sql`(s.state = 'lost' or s.reason->>'code' = ${DOCKER_UNREACHABLE})`;

/**
 * Stores the reason of sets that wait for a down host with their volume data (I5, I13). Returns the
 * sets that did not have this reason before, at most `limit`. A set that its host has reported
 * meanwhile does not match.
 */
export async function holdSetsWithVolumeData(
  q: Queryable,
  grace: DownGracePeriods,
  limit: number,
): Promise<HeldSetRow[]> {
  return queryRows(
    q,
    sql`with down as materialized (select id, name, state, accepted_generation from hosts h where ${downPastGraceSql(grace)}),
        waiting as (
          select s.id, h.name as host_name, h.state as host_state
          from down h join sets s on s.host_id = h.id join services v on v.id = s.service_id
          where s.desired = 'running' and ${boundToVolumeSql} and not (${replaceableSetSql}) and ${silentSetSql}
            and s.reason->>'code' is distinct from ${VOLUME_HOST_LOST}
          order by s.id limit ${limit} for no key update of s skip locked
        )
        update sets s set updated_at = now(), reason = jsonb_build_object('code', ${VOLUME_HOST_LOST}::text, 'phase', 'run',
          'text', format(case w.host_state when 'lost' then ${waitText("host-lost")}::text
            else ${waitText("docker-unresponsive")}::text end, w.host_name),
          'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        from waiting w where s.id = w.id
        returning s.id as "setId", s.tenant_id as "tenantId", s.service_id as "serviceId", s.host_id as "hostId",
          s.reason->>'text' as explanation`,
  );
}

/**
 * Lists services with sets to replace on these hosts. The order is random, so that no service is
 * last in every round.
 */
export async function listServicesToReplace(
  q: Queryable,
  hostIds: readonly string[],
  limit: number,
): Promise<string[]> {
  if (hostIds.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select v.id from sets s join services v on v.id = s.service_id join hosts h on h.id = s.host_id
        where s.host_id = ${anyOf(hostIds)} and ${replaceableSetSql}
        group by v.id order by random() limit ${limit}`,
  );
  return rows.map((row) => row.id);
}

/** Lists those of the hosts that have sets of the service to replace, at most `limit`. */
export async function listHostsToReplace(
  q: Queryable,
  serviceId: string,
  hostIds: readonly string[],
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct h.id from sets s join services v on v.id = s.service_id join hosts h on h.id = s.host_id
        where s.service_id = ${serviceId} and s.deleted_at is null and s.host_id = ${anyOf(hostIds)} and ${replaceableSetSql}
        order by id limit ${limit}`,
  );
  return rows.map((row) => row.id);
}

export interface AbandonedSetRow {
  setId: string;
  hostId: string;
  hostName: string;
  hostState: "lost" | "unhealthy";
}

/**
 * Abandons a service's sets on hosts that are still down, at most `limit`. The agents delete the
 * old sets when their hosts return: this fences them (I3). The caller has locked the service and
 * the hosts, and creates the replacements.
 */
export async function abandonSets(
  q: Queryable,
  serviceId: string,
  hostIds: readonly string[],
  grace: DownGracePeriods,
  limit: number,
): Promise<AbandonedSetRow[]> {
  if (hostIds.length === 0) return [];
  return queryRows(
    q,
    sql`with abandoned as materialized (
          select s.id, h.id as host_id, h.name as host_name, h.state as host_state
          from sets s join services v on v.id = s.service_id join hosts h on h.id = s.host_id
          where s.service_id = ${serviceId} and s.deleted_at is null and s.host_id = ${anyOf(hostIds)}
            and ${replaceableSetSql} and ${downPastGraceSql(grace)}
          order by s.id limit ${limit}
        ), bumped as (
          update hosts set generation = generation + 1 where id in (select host_id from abandoned) returning id, generation
        )
        update sets s set desired = 'deleted', state = 'lost', ready = false, generation = s.generation + 1,
          host_generation = b.generation, updated_at = now(),
          reason = jsonb_build_object('code', ${HOST_LOST_REPLACED}::text, 'text',
            ${renderReasonText(HOST_LOST_REPLACED, {})}::text, 'phase', 'run')
        from abandoned a join bumped b on b.id = a.host_id where s.id = a.id
        returning s.id as "setId", a.host_id as "hostId", a.host_name as "hostName", a.host_state as "hostState"`,
  );
}

/** The reason of a set that Berth abandoned on a down host. Nothing else has this reason. */
export const HOST_LOST_REPLACED = "host-lost-replaced";
