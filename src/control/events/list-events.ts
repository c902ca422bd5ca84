import type { BerthEvent, EventKind } from "../../contracts/api/events.ts";
import {
  type EventFilter,
  listEvents as listEventRows,
} from "../../db/queries/events/read-events.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStartNumber, toPage } from "../runtime/paging.ts";

export interface EventQuery {
  service?: string | undefined;
  set?: string | undefined;
  host?: string | undefined;
  kind?: EventKind | undefined;
}

/** Lists events, the newest first. A caller with a scope sees only the events of its tenant. */
export async function listEvents(
  ctx: ControlContext,
  scope: string | null,
  query: EventQuery & PageRequest,
): Promise<Page<BerthEvent>> {
  const filter = toEventFilter(query);
  const rows = await listEventRows(ctx.db, scope, filter, pageStartNumber(query), query.limit + 1);
  return toPage(rows, query.limit, (event) => String(event.id));
}

export function toEventFilter(query: EventQuery): EventFilter {
  return { service: query.service, set: query.set, host: query.host, kind: query.kind };
}
