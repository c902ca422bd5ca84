import type { BerthSet, SetState } from "../../contracts/api/sets.ts";
import { listSets as listSetRows } from "../../db/queries/sets/read-sets.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

export interface ListSets extends PageRequest {
  service?: string | undefined;
  host?: string | undefined;
  state?: SetState | undefined;
}

export async function listSets(
  ctx: ControlContext,
  scope: string | null,
  query: ListSets,
): Promise<Page<BerthSet>> {
  const filter = { service: query.service, host: query.host, state: query.state };
  const rows = await listSetRows(ctx.db, scope, filter, pageStart(query), query.limit + 1);
  return toPage(rows, query.limit, (set) => set.id);
}
