import { notFound } from "../../contracts/common/app-error.ts";
import { findTenantByName } from "../../db/queries/tenancy/tenants.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Throws not-found. */
export async function getTenantByName(
  ctx: ControlContext,
  name: string,
): Promise<{ id: string; name: string }> {
  const tenant = await findTenantByName(ctx.db, name);
  if (!tenant) throw notFound("tenant");
  return { id: tenant.id, name: tenant.name };
}
