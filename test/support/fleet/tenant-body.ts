import type { z } from "zod";
import { createTenantBody } from "../../../src/contracts/api/tenancy.ts";

type TenantInput = z.input<typeof createTenantBody>;

/** A valid tenant; members of the quota that a test does not name have their defaults. */
export function tenantBody(
  name: string,
  quota: TenantInput["quota"] = {},
  grants: TenantInput["grants"] = {},
) {
  return createTenantBody.parse({ name, quota, grants });
}
