import type { Token } from "../../contracts/api/tenancy.ts";
import { listTokens as listTokenRows } from "../../db/queries/tenancy/tokens.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

/** Lists all tokens, including revoked and used ones, without secrets. */
export async function listTokens(ctx: ControlContext, page: PageRequest): Promise<Page<Token>> {
  const rows = await listTokenRows(ctx.db, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (token) => token.id);
}
