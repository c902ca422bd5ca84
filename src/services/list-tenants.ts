import type { Tenant } from "../contracts/access.ts";
import { listTenants as listTenantRows } from "../db/queries/tenants.ts";
import type { ServiceContext } from "./context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "./page.ts";

export async function listTenants(ctx: ServiceContext, page: PageRequest): Promise<Page<Tenant>> {
  const rows = await listTenantRows(ctx.db, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (tenant) => tenant.id);
}
