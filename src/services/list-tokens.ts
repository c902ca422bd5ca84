import type { Token } from "../contracts/access.ts";
import { listTokens as listTokenRows } from "../db/queries/tokens.ts";
import type { ServiceContext } from "./context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "./page.ts";

/** All tokens, revoked and used ones too; never a secret. */
export async function listTokens(ctx: ServiceContext, page: PageRequest): Promise<Page<Token>> {
  const rows = await listTokenRows(ctx.db, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (token) => token.id);
}
