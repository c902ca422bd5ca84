import { notFound } from "../../contracts/common/app-error.ts";
import type { Service } from "../../contracts/api/services.ts";
import { findService } from "../../db/queries/services/read-services.ts";
import type { ControlContext } from "../runtime/context.ts";

/** A service with its counts, in one query. Throws not-found. */
export async function getService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
): Promise<Service> {
  const service = await findService(ctx.db, tenantId, name);
  if (!service) throw notFound("service");
  return service;
}
