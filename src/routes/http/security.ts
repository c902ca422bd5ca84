import type { TokenRole } from "../../contracts/api/tenancy.ts";

/**
 * Who may call an operation, in OpenAPI's own terms: the description that people read is the rule that is enforced
 * (see authorise.ts). From version 3.1 on a bearer scheme's list names the roles of which one is needed.
 */
export type Security = Partial<Record<"bearerToken" | "basicToken" | "hostCredential", string[]>>[];

export const securitySchemes = {
  bearerToken: {
    type: "http",
    scheme: "bearer",
    description: "A token from `POST /v1/tokens`. The operation lists the roles that may call it.",
  },
  basicToken: {
    type: "http",
    scheme: "basic",
    description:
      "For alert senders that only know Basic: any user name, the token as the password.",
  },
  hostCredential: {
    type: "http",
    scheme: "bearer",
    description: "The credential that a host got when it was enrolled.",
  },
} as const;

/** Anybody, without a credential. */
export const everybody: Security = [];

export function allow(...roles: TokenRole[]): Security {
  return [{ bearerToken: roles }];
}

/** Look at things: every role of people. */
export const readers = allow("admin", "operator", "tenant", "read");
/** Look at hosts: not who is bound to a tenant, see fleet-readers-only.ts. */
export const fleetReaders = allow("admin", "operator", "read");
/** Change a tenant's things. */
export const writers = allow("admin", "operator", "tenant");
/** Change hosts. */
export const operators = allow("admin", "operator");
/** Tokens and tenants. */
export const admins = allow("admin");
export const hosts: Security = [{ hostCredential: [] }];
export const hookSenders: Security = [{ bearerToken: ["hook"] }, { basicToken: ["hook"] }];
