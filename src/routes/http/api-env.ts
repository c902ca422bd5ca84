import type { Context } from "hono";
import { notFound } from "../../contracts/common/app-error.ts";
import type { ProblemCode } from "../../contracts/common/problems.ts";
import { assert } from "../../lib/assert.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { HostCaller } from "../../control/hosts/authenticate-host.ts";

/** The variables that middleware sets for handlers. */
export interface ApiVariables {
  requestId: string;
  operationId: string | undefined;
  problemCode: ProblemCode | undefined;
  /** The error behind a 5xx status, for the log. Never sent. */
  fault: unknown;
  caller: Caller | undefined;
  /**
   * The secret of the caller. It encrypts stored responses, which only this caller may read again.
   */
  bearerSecret: string | undefined;
  /** The id of the tenant whose resources the request reads or changes. Null for all tenants. */
  scope: string | null;
  /**
   * The tenant in which names are looked up: `scope`, or the tenant "default" if the caller named
   * none. Undefined if that tenant does not exist.
   */
  tenantId: string | undefined;
  host: HostCaller | undefined;
  bodyText: string | undefined;
  /**
   * The deadline in terms of `performance.now()`, after which the response is 503. Undefined
   * without a limit.
   */
  deadlineAtMs: number | undefined;
  /** Removes the time limit of the request. */
  endTimeLimit: (() => void) | undefined;
}

export interface ApiEnv {
  Variables: ApiVariables;
}
export type ApiContext = Context<ApiEnv>;

/** Returns the caller of an operation that only bearer tokens may call. */
export function getCaller(c: ApiContext): Caller {
  const caller = c.get("caller");
  assert(caller, "an operation for bearer tokens runs after authorization");
  return caller;
}

/** Returns the host of an operation that only hosts may call. */
export function getHostCaller(c: ApiContext): HostCaller {
  const host = c.get("host");
  assert(host, "an operation for hosts runs after authorization");
  return host;
}

/**
 * Returns the tenant in which names are looked up. Throws not-found without the tenant "default".
 */
export function getTenantId(c: ApiContext): string {
  const tenantId = c.get("tenantId");
  if (tenantId === undefined) throw notFound("tenant");
  return tenantId;
}
