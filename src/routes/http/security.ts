import type { TokenRole } from "../../contracts/api/tenancy.ts";

/**
 * The callers of an operation in OpenAPI's terms, so that the documented rule is the enforced rule
 * (see authorize.ts). In OpenAPI 3.1 the list of a bearer scheme names roles; one of them suffices.
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
      "For alert senders that support only Basic: any user name, with the token as the password.",
  },
  hostCredential: {
    type: "http",
    scheme: "bearer",
    description: "The credential of a host: from its enrollment, or from its last rotation.",
  },
} as const;

/** Callers without a credential. */
export const publicAccess: Security = [];

export function allow(...roles: TokenRole[]): Security {
  return [{ bearerToken: roles }];
}

/** Callers that may read resources of tenants: all roles of users. */
export const readers = allow("admin", "operator", "tenant", "read");
/** Callers that may read hosts, unless they are bound to a tenant: see fleet-readers-only.ts. */
export const fleetReaders = allow("admin", "operator", "read");
/** Callers that may change resources of tenants. */
export const writers = allow("admin", "operator", "tenant");
/** Callers that may change hosts. */
export const operators = allow("admin", "operator");
/** Callers that may change tokens and tenants. */
export const admins = allow("admin");
export const hosts: Security = [{ hostCredential: [] }];
export const hookSenders: Security = [{ bearerToken: ["hook"] }, { basicToken: ["hook"] }];
