import { notFound } from "../contracts/app-error.ts";
import type { Service } from "../contracts/services.ts";
import { findService } from "../db/queries/service-reads.ts";
import type { ServiceContext } from "./context.ts";

/** A service with its counts, in one query. Throws not-found. */
export async function getService(
  ctx: ServiceContext,
  tenantId: string,
  name: string,
): Promise<Service> {
  const service = await findService(ctx.db, tenantId, name);
  if (!service) throw notFound("service");
  return service;
}
