import { notFound } from "../../contracts/common/app-error.ts";
import type { Demand } from "../../contracts/api/autoscaling.ts";
import { listDemands as listDemandRows } from "../../db/queries/autoscaling/demands.ts";
import { findServiceId } from "../../db/queries/autoscaling/hooks.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

/** Lists the demands of a service, newest first; released ones for 30 days. Throws not-found. */
export async function listDemands(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  page: PageRequest,
): Promise<Page<Demand>> {
  const serviceId = await findServiceId(ctx.db, tenantId, serviceName);
  if (serviceId === undefined) throw notFound("service");
  const rows = await listDemandRows(ctx.db, serviceId, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (demand) => demand.id);
}
