import type { Registry } from "../../contracts/api/registries.ts";
import { listRegistries as listRegistryRows } from "../../db/queries/tenancy/registry-credentials.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

/** Lists the registries for which a tenant, or any tenant, has stored a credential. */
export async function listRegistries(
  ctx: ControlContext,
  scope: string | null,
  page: PageRequest,
): Promise<Page<Registry>> {
  const rows = await listRegistryRows(ctx.db, scope, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, ({ id }) => id);
}
