import { AppError } from "../../contracts/common/app-error.ts";
import { type ApiContext, callerOf } from "./api-env.ts";

/** Hosts are shared by all tenants: who is bound to one may not look at them. Throws forbidden. */
export function fleetReadersOnly(c: ApiContext): void {
  if (callerOf(c).tenantId === null) return;
  throw new AppError("forbidden", { detail: "A token that is bound to a tenant may not do this." });
}
