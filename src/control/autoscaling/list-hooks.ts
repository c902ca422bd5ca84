import { notFound } from "../../contracts/common/app-error.ts";
import type { Hook } from "../../contracts/api/autoscaling.ts";
import { findServiceId, listHooks as listHookRows } from "../../db/queries/autoscaling/hooks.ts";
import type { ControlContext } from "../runtime/context.ts";
import { toHook } from "./create-hook.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

/** Lists the hooks of a service, oldest first, without their tokens. Throws not-found. */
export async function listHooks(
  ctx: ControlContext,
  tenantId: string,
  serviceName: string,
  page: PageRequest,
): Promise<Page<Hook>> {
  const serviceId = await findServiceId(ctx.db, tenantId, serviceName);
  if (serviceId === undefined) throw notFound("service");
  const rows = await listHookRows(ctx.db, serviceId, pageStart(page), page.limit + 1);
  const hooks = rows.map((row) => toHook(row, serviceName));
  return toPage(hooks, page.limit, (hook) => hook.id);
}
