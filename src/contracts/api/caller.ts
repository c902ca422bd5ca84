import type { TokenRole } from "./tenancy.ts";

/**
 * The authenticated sender of a request. `tenantId` is null for callers that are not bound to a
 * tenant.
 */
export interface Caller {
  tokenId: string;
  role: TokenRole;
  tenantId: string | null;
  /** The hook of a hook token. */
  hookId: string | null;
  /** The host pool of an enroll token. */
  pool: string | null;
}
