import type { PlacementSpec } from "../../contracts/api/placement-spec.ts";
import type { Grants } from "../../contracts/api/tenancy.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { getGrants } from "../../db/queries/tenancy/tenants.ts";

/** The part of a service that needs grants. */
export interface GrantedRequest {
  placement: Pick<PlacementSpec, "pool" | "tolerations" | "hostLabels">;
  priority: number;
}

/** Lists what a service requests and its tenant is not granted, each in the words of an admin. */
export function findMissingGrants(
  grants: Grants,
  { placement, priority }: GrantedRequest,
): string[] {
  const { pool, tolerations, hostLabels } = placement;
  const missing: string[] = [];
  if (!grants.pools.includes("*") && !grants.pools.includes(pool)) missing.push(`pool ${pool}`);
  for (const { key, value } of tolerations)
    if (!isGranted(grants.tolerations, key, value)) missing.push(`toleration ${key}=${value}`);
  for (const [key, value] of Object.entries(hostLabels))
    if (!isGranted(grants.hostLabels, key, value)) missing.push(`host label ${key}=${value}`);
  if (priority > grants.priorityMax) {
    missing.push(`priority ${priority} (at most ${grants.priorityMax} is granted)`);
  }
  return missing;
}

function isGranted(patterns: readonly string[], key: string, value: string): boolean {
  return ["*", `${key}=*`, `${key}=${value}`].some((pattern) => patterns.includes(pattern));
}

/** Throws grant-missing, which names what the tenant has to request from an admin. */
export async function assertGranted(
  q: Queryable,
  tenantId: string,
  request: GrantedRequest,
): Promise<void> {
  const missing = findMissingGrants(await getGrants(q, tenantId), request);
  if (missing.length === 0) return;
  throw new AppError("grant-missing", {
    detail: `The tenant is not granted: ${missing.join(", ")}. Ask an admin to grant it to the tenant, or leave it out of the service.`,
  });
}
