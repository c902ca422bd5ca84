import type { Network } from "../../contracts/api/networks.ts";
import { listNetworks as listNetworkRows } from "../../db/queries/networks/networks.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";
import { ensureDefaultNetwork } from "./default-network.ts";

/** Lists the networks of a tenant, or those of all tenants. */
export async function listNetworks(
  ctx: ControlContext,
  scope: string | null,
  page: PageRequest,
): Promise<Page<Network>> {
  if (scope !== null) await ensureDefaultNetwork(ctx, scope);
  const rows = await listNetworkRows(ctx.db, scope, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, ({ id }) => id);
}
