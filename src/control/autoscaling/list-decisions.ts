import type { Decision } from "../../contracts/api/autoscaling.ts";
import { listDecisions as listDecisionRows } from "../../db/queries/autoscaling/decisions.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

/**
 * Lists decisions, newest first: of one tenant or, with scope null, of all; of one service if the
 * query names it.
 */
export async function listDecisions(
  ctx: ControlContext,
  scope: string | null,
  query: PageRequest & { service?: string | undefined },
): Promise<Page<Decision>> {
  const start = pageStart(query);
  const rows = await listDecisionRows(ctx.db, scope, query.service, start, query.limit + 1);
  return toPage(rows, query.limit, (decision) => decision.id);
}
