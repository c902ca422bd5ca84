import type { Session } from "../../contracts/api/sessions.ts";
import { listSessions as listSessionRows } from "../../db/queries/sessions/sessions.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

export async function listSessions(
  ctx: ControlContext,
  scope: string | null,
  query: PageRequest & { set?: string | undefined; open: boolean },
): Promise<Page<Session>> {
  const filter = { setId: query.set, isOpen: query.open };
  const rows = await listSessionRows(ctx.db, scope, filter, pageStart(query), query.limit + 1);
  return toPage(rows, query.limit, (session) => session.id);
}
