import type { Service } from "../../contracts/api/services.ts";
import { listServices as listServiceRows } from "../../db/queries/services/read-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

export async function listServices(
  ctx: ControlContext,
  scope: string | null,
  page: PageRequest,
): Promise<Page<Service>> {
  const rows = await listServiceRows(ctx.db, scope, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (service) => service.id);
}
