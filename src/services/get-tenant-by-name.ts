import { notFound } from "../contracts/app-error.ts";
import { findTenantByName } from "../db/queries/tenants.ts";
import type { ServiceContext } from "./context.ts";

/** Throws not-found. */
export async function getTenantByName(
  ctx: ServiceContext,
  name: string,
): Promise<{ id: string; name: string }> {
  const tenant = await findTenantByName(ctx.db, name);
  if (!tenant) throw notFound("tenant");
  return { id: tenant.id, name: tenant.name };
}
