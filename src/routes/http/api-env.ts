import type { Context } from "hono";
import { notFound } from "../../contracts/common/app-error.ts";
import type { ProblemCode } from "../../contracts/common/problems.ts";
import { assert } from "../../lib/assert.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { HostCaller } from "../../control/hosts/enroll-host.ts";

/** What middleware leaves for handlers. */
export interface ApiVariables {
  requestId: string;
  operationId: string | undefined;
  problemCode: ProblemCode | undefined;
  /** What the logs say of a fault of ours. Never sent. */
  fault: unknown;
  caller: Caller | undefined;
  /** The secret that the caller showed, for sealing what only it may read again. */
  bearerSecret: string | undefined;
  /** Id of the tenant whose things the request is about; null: of all tenants. */
  scope: string | null;
  /** Of by-name operations: as scope, but "default" where the caller named none. Undefined: there is none. */
  tenantId: string | undefined;
  host: HostCaller | undefined;
  bodyText: string | undefined;
  /** The request is answered 503 at this time of `performance.now()`. Undefined: it has no time limit. */
  deadlineAtMs: number | undefined;
  /** The request may take as long as it wants from here on. */
  endTimeLimit: (() => void) | undefined;
}

export interface ApiEnv {
  Variables: ApiVariables;
}
export type ApiContext = Context<ApiEnv>;

/** The caller of an operation that only bearer tokens may call. */
export function callerOf(c: ApiContext): Caller {
  const caller = c.get("caller");
  assert(caller, "an operation for bearer tokens runs after authorisation");
  return caller;
}

/** The host of an operation that only hosts may call. */
export function hostOf(c: ApiContext): HostCaller {
  const host = c.get("host");
  assert(host, "an operation for hosts runs after authorisation");
  return host;
}

/** The tenant in which names are looked up. Throws not-found on an installation without the tenant "default". */
export function tenantIdOf(c: ApiContext): string {
  const tenantId = c.get("tenantId");
  if (tenantId === undefined) throw notFound("tenant");
  return tenantId;
}
