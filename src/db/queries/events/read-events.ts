import { type SQL, sql } from "drizzle-orm";
import type { BerthEvent, EventKind } from "../../../contracts/api/events.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, rowsOf } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

export interface EventFilter {
  service: string | undefined;
  set: string | undefined;
  host: string | undefined;
  kind: EventKind | undefined;
}

type EventRow = Omit<BerthEvent, "at"> & { at: string | Date };

const eventColumns = sql`e.id::float8 as id, e.at, e.kind, t.name as tenant, v.name as service, e.set_id as "setId",
  e.host_id as "hostId", e.generation::float8 as generation, e.text, e.data`;
const eventTables = sql`events e left join tenants t on t.id = e.tenant_id left join services v on v.id = e.service_id`;

/** Newest first, before `beforeId`. */
export async function listEvents(
  q: Queryable,
  scope: string | null,
  filter: EventFilter,
  beforeId: number | undefined,
  limit: number,
): Promise<BerthEvent[]> {
  const before = beforeId === undefined ? sql`true` : sql`e.id < ${beforeId}`;
  const rows = await rowsOf<EventRow>(
    q,
    sql`select ${eventColumns} from ${eventTables}
        where ${before} and ${matches(scope, filter)} order by e.id desc limit ${limit}`,
  );
  return rows.map(toEvent);
}

/** Where a reader of the stream stands: everything up to and including (xid, id) is behind it. */
export interface StreamPosition {
  xid: string;
  id: string;
}

/** After every event of a transaction. */
const lastIdOfXid = "9223372036854775807";

/**
 * Events after a position, in the order (xid, id), of transactions below the oldest one that still runs: ids are given
 * out in another order than transactions commit, and a reader that went by ids alone would pass over what commits late.
 * Without a position nothing is read. Gives where the reader stands then. (Index events_xid.)
 */
export async function readEventsAfter(
  q: Queryable,
  scope: string | null,
  filter: EventFilter,
  position: StreamPosition | undefined,
  limit: number,
): Promise<{
  events: { event: BerthEvent; position: StreamPosition }[];
  position: StreamPosition;
}> {
  const read =
    position === undefined
      ? sql`select null::text as xid, null::bigint as event_id, null::json as event where false`
      : sql`select e.xid::text as xid, e.id as event_id, json_build_object('id', e.id, 'at', e.at, 'kind', e.kind,
              'tenant', t.name, 'service', v.name, 'setId', e.set_id, 'hostId', e.host_id, 'generation', e.generation,
              'text', e.text, 'data', e.data) as event
            from ${eventTables}, horizon
            where (e.xid, e.id) > (${position.xid}::xid8, ${position.id}::bigint) and e.xid < horizon.xmin
              and ${matches(scope, filter)}
            order by e.xid, e.id limit ${limit}`;
  const rows = await rowsOf<{
    horizon: string;
    xid: string | null;
    event_id: string | number | null;
    event: BerthEvent | null;
  }>(
    q,
    sql`with horizon as (select pg_snapshot_xmin(pg_current_snapshot()) as xmin), found as (${read})
        select (horizon.xmin::text::numeric - 1)::text as horizon, found.*
        from horizon left join found on true order by found.xid::xid8, found.event_id`,
  );
  const events = rows.flatMap((row) =>
    row.event === null || row.xid === null
      ? []
      : [
          {
            event: { ...row.event, at: isoTime(row.event.at) },
            position: { xid: row.xid, id: String(row.event_id) },
          },
        ],
  );
  // A full page stops at its last event; any other has seen all there was below the horizon.
  const last = events.at(-1);
  const isFull = events.length >= limit && last !== undefined;
  return {
    events,
    position: isFull ? last.position : { xid: rows[0]?.horizon ?? "0", id: lastIdOfXid },
  };
}

function matches(scope: string | null, filter: EventFilter): SQL {
  const conditions = [inScope(sql`e.tenant_id`, scope)];
  if (filter.service !== undefined) {
    // Deleted services too: their events are what one looks for afterwards.
    conditions.push(
      sql`e.service_id in (select id from services x where x.name = ${filter.service} and ${inScope(sql`x.tenant_id`, scope)})`,
    );
  }
  if (filter.set !== undefined) conditions.push(sql`e.set_id = ${filter.set}`);
  if (filter.host !== undefined) conditions.push(sql`e.host_id = ${filter.host}`);
  if (filter.kind !== undefined) conditions.push(sql`e.kind = ${filter.kind}`);
  return sql.join(conditions, sql` and `);
}

function toEvent(row: EventRow): BerthEvent {
  return { ...row, at: isoTime(row.at) };
}
