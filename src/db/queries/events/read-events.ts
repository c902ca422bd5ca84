import { and, desc, eq, lt, type SQL, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/pg-core";
import type { BerthEvent, EventKind } from "../../../contracts/api/events.ts";
import { assert } from "../../../lib/assert.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { quoted } from "../../schema/columns.ts";
import { events } from "../../schema/events.ts";
import { services } from "../../schema/services.ts";
import { tenants } from "../../schema/tenancy.ts";
import { isoTime, queryRows } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

export interface EventFilter {
  service: string | undefined;
  set: string | undefined;
  host: string | undefined;
  kind: EventKind | undefined;
}

/** The events under the name that the conditions of `matches` use. */
const e = alias(events, "e");

const eventColumns = {
  id: e.id,
  at: e.at,
  kind: e.kind,
  tenant: tenants.name,
  service: services.name,
  setId: e.setId,
  hostId: e.hostId,
  generation: e.generation,
  text: e.text,
  data: e.data,
};

/** Lists events before `beforeId`, the newest first. */
export async function listEvents(
  q: Queryable,
  scope: string | null,
  filter: EventFilter,
  beforeId: number | undefined,
  limit: number,
): Promise<BerthEvent[]> {
  const before = beforeId === undefined ? undefined : lt(e.id, beforeId);
  const rows = await q
    .select(eventColumns)
    .from(e)
    .leftJoin(tenants, eq(tenants.id, e.tenantId))
    .leftJoin(services, eq(services.id, e.serviceId))
    .where(and(before, matches(scope, filter)))
    .orderBy(desc(e.id))
    .limit(limit);
  return rows.map((row) => ({ ...row, at: row.at.toISOString() }));
}

/** The position of a reader of the stream: the last (xid, id) that it has passed. */
export interface StreamPosition {
  xid: string;
  id: string;
  /**
   * The Postgres server of the position, and the time of its event or of its read. Another server
   * may have other transaction ids. Undefined in the cursors of an earlier release.
   */
  origin?: { serverEpoch: string; atMs: number } | undefined;
}

/** The largest id: a position with it is after every event of its transaction. */
const lastIdOfXid = "9223372036854775807";
/** Events that one read of a stream passes over, whether they match its filter or not. */
const SPAN_EVENTS_MAX = 2_000;
/** A position of another server continues this long before its time. Transactions are shorter. */
const RESTART_MARGIN_MS = 10 * 60_000;
/** The newest events among which `findRestart` searches. */
const RESTART_EVENTS_MAX = 50_000;
/** The start of the Postgres server, in microseconds. */
const serverEpochSql = sql`(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text`;

/**
 * Reads events after a position in the order (xid, id). Without a position it reads no events and
 * returns the current position.
 *
 * It reads only events of transactions that are older than the oldest running one. Transactions do
 * not commit in the order of ids, so a reader that followed ids alone would miss late commits.
 *
 * One call passes at most 2,000 events, and returns at most `limit` that match. The position always
 * advances, so a stream whose filter matches nothing catches up too. `isBehind`: more events are
 * ready. (Index events_xid.)
 *
 * After a restart, a failover or a restore, a position of the previous server continues at the same
 * event. If this server does not have the event, it continues ten minutes before its time. So a
 * reader may get events twice then, but misses none.
 */
export async function readEventsAfter(
  q: Queryable,
  scope: string | null,
  filter: EventFilter,
  position: StreamPosition | undefined,
  limit: number,
): Promise<EventsRead> {
  const read = await readSpan(q, scope, filter, position, limit);
  const serverEpoch = read.position.origin?.serverEpoch;
  if (!position?.origin || position.origin.serverEpoch === serverEpoch) return read;
  return readSpan(q, scope, filter, await findRestart(q, position), limit);
}

export interface EventsRead {
  events: { event: BerthEvent; tenantId: string | null; position: StreamPosition }[];
  /** Its origin is the server that has answered. */
  position: StreamPosition;
  isBehind: boolean;
}

/**
 * Finds the position on this server that continues a position of another one: at the same event,
 * else ten minutes before its time. With too many events since then, it is before all events.
 */
async function findRestart(
  q: Queryable,
  { xid, id, origin }: StreamPosition,
): Promise<StreamPosition> {
  const atMs = origin?.atMs ?? 0;
  const fromMs = atMs - RESTART_MARGIN_MS;
  const [found] = await queryRows<{ xid: string; id: string }>(
    q,
    sql`with same as (
          select xid, id from events where id = ${id}::bigint and xid = ${xid}::xid8
            and floor(extract(epoch from at) * 1000) = ${atMs}::bigint
        ), newest as materialized (
          select xid, id, at from events where not exists (select 1 from same) order by id desc limit ${RESTART_EVENTS_MAX}
        ), bounds as (
          select count(*) = ${RESTART_EVENTS_MAX} and min(at) >= to_timestamp(${fromMs}::float8 / 1000) as "isTooRecent" from newest
        )
        select xid::text, id::text from (
          (select 1 as choice, xid, id from same)
          union all (select 2, '0'::xid8, 0 from bounds where "isTooRecent")
          union all (select 3, xid, id - 1 from newest where at >= to_timestamp(${fromMs}::float8 / 1000) order by xid, id limit 1)
          union all (select 4, xid, id from newest order by xid desc, id desc limit 1)
        ) candidates order by choice limit 1`,
  );
  return found ?? { xid: "0", id: "0" };
}

async function readSpan(
  q: Queryable,
  scope: string | null,
  filter: EventFilter,
  position: StreamPosition | undefined,
  limit: number,
): Promise<EventsRead> {
  const after =
    position === undefined
      ? sql`false`
      : sql`(e.xid, e.id) > (${position.xid}::xid8, ${position.id}::bigint) and e.xid < horizon.xmin`;
  const rows = await queryRows<{
    horizon: string;
    serverEpoch: string;
    nowMs: number;
    spanAtMs: number | null;
    spanCount: number;
    spanXid: string | null;
    spanId: string | number | null;
    xid: string | null;
    eventId: string | number | null;
    tenantId: string | null;
    event: BerthEvent | null;
  }>(
    q,
    sql`with horizon as (select pg_snapshot_xmin(pg_current_snapshot()) as xmin),
        span as materialized (
          select e.* from events e, horizon where ${after} order by e.xid, e.id limit ${SPAN_EVENTS_MAX}
        ), reached as (
          select count(*)::int as count, (array_agg(xid order by xid desc, id desc))[1]::text as xid,
            (array_agg(id order by xid desc, id desc))[1] as id,
            (array_agg(floor(extract(epoch from at) * 1000) order by xid desc, id desc))[1]::float8 as at_ms from span
        ), found as (
          select e.xid, e.id as event_id, e.tenant_id, json_build_object('id', e.id, 'at', e.at, 'kind', e.kind, 'tenant', t.name,
            'service', v.name, 'setId', e.set_id, 'hostId', e.host_id, 'generation', e.generation, 'text', e.text,
            'data', e.data) as event
          from span e left join tenants t on t.id = e.tenant_id left join services v on v.id = e.service_id
          where ${matches(scope, filter)} order by e.xid, e.id limit ${limit}
        )
        select (horizon.xmin::text::numeric - 1)::text as horizon, ${serverEpochSql} as "serverEpoch",
          floor(extract(epoch from now()) * 1000)::float8 as "nowMs", reached.at_ms as "spanAtMs", reached.count as "spanCount", reached.xid as "spanXid",
          reached.id as "spanId", found.xid::text as xid, found.event_id as "eventId", found.tenant_id as "tenantId", found.event
        from horizon cross join reached left join found on true order by found.xid, found.event_id`,
  );
  const [first] = rows;
  assert(first, "a cross join with an aggregate gives a row");
  const { serverEpoch } = first;
  const events = rows.flatMap(({ event, tenantId, xid, eventId }) => {
    if (event === null || xid === null) return [];
    const at = isoTime(event.at);
    const origin = { serverEpoch, atMs: Date.parse(at) };
    return { event: { ...event, at }, tenantId, position: { xid, id: String(eventId), origin } };
  });
  const last = events.at(-1);
  if (events.length >= limit && last) return { events, position: last.position, isBehind: true };
  if (first.spanCount >= SPAN_EVENTS_MAX && first.spanXid !== null) {
    const origin = { serverEpoch, atMs: first.spanAtMs ?? 0 };
    const reached = { xid: first.spanXid, id: String(first.spanId), origin };
    return { events, position: reached, isBehind: true };
  }
  const origin = { serverEpoch, atMs: first.nowMs };
  return { events, position: { xid: first.horizon, id: lastIdOfXid, origin }, isBehind: false };
}

function matches(scope: string | null, filter: EventFilter): SQL {
  const conditions = [inScope(e.tenantId, scope)];
  if (filter.service !== undefined) {
    // Includes deleted services, because their last events matter most.
    conditions.push(
      sql`${e.serviceId} in (select id from services x where x.name = ${filter.service} and ${inScope(sql`x.tenant_id`, scope)})`,
    );
  }
  if (filter.set !== undefined) conditions.push(eq(e.setId, filter.set));
  if (filter.host !== undefined) conditions.push(eq(e.hostId, filter.host));
  // A literal and no parameter, so that Postgres can use the index events_rare_kind.
  if (filter.kind !== undefined) conditions.push(sql`${e.kind} = ${quoted([filter.kind])}`);
  return sql.join(conditions, sql` and `);
}

export interface EventStreamLag {
  /** The age of the oldest event that streams do not show yet. Zero if there is none. */
  ageSeconds: number;
  /** The oldest transaction of the server, which delays events. For an operator. */
  holder: string | null;
}

/**
 * Reads the lag of event streams. Streams show an event once no older transaction of the whole
 * Postgres server runs, so one long write in another database delays them.
 */
export async function readEventStreamLag(q: Queryable): Promise<EventStreamLag> {
  const rows = await queryRows<EventStreamLag>(
    q,
    sql`select coalesce(extract(epoch from now() - (
          select e.at from events e where e.xid >= pg_snapshot_xmin(pg_current_snapshot())
            and e.xid < pg_snapshot_xmax(pg_current_snapshot()) order by e.xid, e.id limit 1)), 0)::float8 as "ageSeconds",
        (select concat_ws(' ', 'pid', a.pid, 'database', a.datname, 'application', a.application_name)
          from pg_stat_activity a where a.backend_xid is not null and a.pid <> pg_backend_pid()
          order by a.xact_start limit 1) as holder`,
  );
  return rows[0] ?? { ageSeconds: 0, holder: null };
}
