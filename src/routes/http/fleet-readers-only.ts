import { AppError } from "../../contracts/common/app-error.ts";
import { type ApiContext, getCaller } from "./api-env.ts";

/**
 * Rejects callers that are bound to a tenant, because all tenants share the hosts. Throws
 * forbidden.
 */
export function fleetReadersOnly(c: ApiContext): void {
  if (getCaller(c).tenantId === null) return;
  throw new AppError("forbidden", {
    detail: "A token that is bound to a tenant has no access to hosts.",
  });
}
