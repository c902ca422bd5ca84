import { and, desc, eq, lt, type SQL, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/pg-core";
import type { BerthEvent, EventKind } from "../../../contracts/api/events.ts";
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
}

/** The largest id: a position with it is after every event of its transaction. */
const lastIdOfXid = "9223372036854775807";
/** Events that one read of a stream passes over, whether they match its filter or not. */
const SPAN_EVENTS_MAX = 2_000;

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
 */
export async function readEventsAfter(
  q: Queryable,
  scope: string | null,
  filter: EventFilter,
  position: StreamPosition | undefined,
  limit: number,
): Promise<{
  events: { event: BerthEvent; tenantId: string | null; position: StreamPosition }[];
  position: StreamPosition;
  isBehind: boolean;
}> {
  const after =
    position === undefined
      ? sql`false`
      : sql`(e.xid, e.id) > (${position.xid}::xid8, ${position.id}::bigint) and e.xid < horizon.xmin`;
  const rows = await queryRows<{
    horizon: string;
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
            (array_agg(id order by xid desc, id desc))[1] as id from span
        ), found as (
          select e.xid, e.id as event_id, e.tenant_id, json_build_object('id', e.id, 'at', e.at, 'kind', e.kind, 'tenant', t.name,
            'service', v.name, 'setId', e.set_id, 'hostId', e.host_id, 'generation', e.generation, 'text', e.text,
            'data', e.data) as event
          from span e left join tenants t on t.id = e.tenant_id left join services v on v.id = e.service_id
          where ${matches(scope, filter)} order by e.xid, e.id limit ${limit}
        )
        select (horizon.xmin::text::numeric - 1)::text as horizon, reached.count as "spanCount", reached.xid as "spanXid",
          reached.id as "spanId", found.xid::text as xid, found.event_id as "eventId", found.tenant_id as "tenantId", found.event
        from horizon cross join reached left join found on true order by found.xid, found.event_id`,
  );
  const events = rows.flatMap(({ event, tenantId, xid, eventId }) =>
    event === null || xid === null
      ? []
      : [
          {
            event: { ...event, at: isoTime(event.at) },
            tenantId,
            position: { xid, id: String(eventId) },
          },
        ],
  );
  const [first] = rows;
  const last = events.at(-1);
  if (events.length >= limit && last) return { events, position: last.position, isBehind: true };
  if (first && first.spanCount >= SPAN_EVENTS_MAX && first.spanXid !== null) {
    const reached = { xid: first.spanXid, id: String(first.spanId) };
    return { events, position: reached, isBehind: true };
  }
  return { events, position: { xid: first?.horizon ?? "0", id: lastIdOfXid }, isBehind: false };
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
