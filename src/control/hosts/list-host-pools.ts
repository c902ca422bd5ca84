import type { HostPool } from "../../contracts/api/hosts.ts";
import { listHostPools as listPoolRows } from "../../db/queries/hosts/host-pools.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

export async function listHostPools(
  ctx: ControlContext,
  page: PageRequest,
): Promise<Page<HostPool>> {
  const rows = await listPoolRows(ctx.db, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (pool) => pool.name);
}
