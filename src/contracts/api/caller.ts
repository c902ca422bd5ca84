import type { TokenRole } from "./tenancy.ts";

/** The authenticated sender of a request. `tenantId` is null for callers that are not bound to a tenant. */
export interface Caller {
  tokenId: string;
  role: TokenRole;
  tenantId: string | null;
  /** Of hook tokens. */
  hookId: string | null;
  /** Of enroll tokens. */
  pool: string | null;
}
