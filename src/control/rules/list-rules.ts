import type { Rule } from "../../contracts/api/rules.ts";
import { listRules as listRuleRows, type RuleFilter } from "../../db/queries/rules/read-rules.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

/** Lists the rules of a tenant, or those of all tenants, the oldest first. */
export async function listRules(
  ctx: ControlContext,
  scope: string | null,
  filter: RuleFilter,
  page: PageRequest,
): Promise<Page<Rule>> {
  const rows = await listRuleRows(ctx.db, scope, filter, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, ({ id }) => id);
}
