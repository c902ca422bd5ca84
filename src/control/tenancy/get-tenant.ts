import type { TenantDetail } from "../../contracts/api/tenancy.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { getTenantUsage } from "../../db/queries/tenancy/tenant-usage.ts";
import { findTenantByName } from "../../db/queries/tenancy/tenants.ts";
import type { ControlContext } from "../runtime/context.ts";

const nothing = { sets: 0, cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };

/**
 * Reads a tenant with its usage. `scope` is the caller's tenant, or null for all. Throws not-found.
 */
export async function getTenant(
  ctx: ControlContext,
  scope: string | null,
  name: string,
): Promise<TenantDetail> {
  const tenant = await findTenantByName(ctx.db, name);
  if (!tenant || (scope !== null && scope !== tenant.id)) throw notFound("tenant");
  const { intended, existing, trashBytes } = await getTenantUsage(ctx.db, tenant.id, nothing);
  return { ...tenant, use: { intended, existing, trashBytes } };
}
