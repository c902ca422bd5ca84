import type { Tenant } from "../../contracts/api/tenancy.ts";
import { listTenants as listTenantRows } from "../../db/queries/tenancy/tenants.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

export async function listTenants(ctx: ControlContext, page: PageRequest): Promise<Page<Tenant>> {
  const rows = await listTenantRows(ctx.db, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (tenant) => tenant.id);
}
