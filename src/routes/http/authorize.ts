import type { MiddlewareHandler } from "hono";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { nameSchema } from "../../contracts/common/primitives.ts";
import { authenticate } from "../../control/tenancy/authenticate.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext } from "../../control/runtime/context.ts";
import { createHostAuthenticator } from "../../control/hosts/authenticate-host.ts";
import { createHostRefusal } from "../../control/hosts/refuse-host.ts";
import { bindWork } from "../../control/runtime/bind-work.ts";
import { getTenantByName } from "../../control/tenancy/get-tenant-by-name.ts";
import type { ApiContext, ApiEnv } from "./api-env.ts";
import type { Security } from "./security.ts";

const DEFAULT_TENANT = "default";
const TENANTS_CACHED_MAX = 10_000;
/** Roles whose requests may name a tenant. Hook and enroll tokens are for one resource only. */
const userRoles: ReadonlySet<string> = new Set(["admin", "operator", "tenant", "read"]);

export type FindTenantId = (name: string) => Promise<string | undefined>;

/**
 * Looks up tenant ids by name. It caches ids indefinitely, because tenants are never renamed or
 * deleted.
 */
export function createTenantLookup(ctx: ControlContext): FindTenantId {
  const known = new Map<string, string>();
  return async (name) => {
    const id = known.get(name);
    if (id !== undefined) return id;
    try {
      const tenant = await getTenantByName(ctx, name);
      if (known.size < TENANTS_CACHED_MAX) known.set(name, tenant.id);
      return tenant.id;
    } catch (error) {
      if (error instanceof AppError && error.code === "not-found") return undefined;
      throw error;
    }
  };
}

/**
 * Admits requests whose credential `security` allows, and sets their scope. It fails closed: a
 * missing, unknown, revoked or expired credential gets 401, and another role gets 403. A 403 comes
 * before any lookup, so it reveals nothing about resources.
 */
export function authorize(
  ctx: ControlContext,
  security: Security,
  findTenantId: FindTenantId,
): MiddlewareHandler<ApiEnv> {
  const bearerRoles = security.find((entry) => entry.bearerToken)?.bearerToken ?? [];
  const basicRoles = security.find((entry) => entry.basicToken)?.basicToken ?? [];
  const isForHosts = security.some((entry) => entry.hostCredential);
  const authenticateHost = createHostAuthenticator(ctx);
  const agentCtx = bindWork(ctx, { kind: "agent" });
  return async (c, next) => {
    const header = c.req.header("authorization") ?? "";
    if (isForHosts) {
      const credential = readBearerSecret(header) ?? "";
      const host = await authenticateHost(credential);
      if (!host) throw await createHostRefusal(agentCtx, { credential });
      c.set("host", host);
      return next();
    }
    const basic = basicRoles.length > 0 ? readBasicSecret(header) : undefined;
    const secret = basic ?? readBearerSecret(header);
    if (secret === undefined) {
      throw unauthenticated("Send a token as `Authorization: Bearer …`.");
    }
    const caller = await authenticate(ctx, secret);
    if (!caller) throw unauthenticated("The token is unknown, revoked or expired.");
    if (!(basic === undefined ? bearerRoles : basicRoles).includes(caller.role)) {
      throw new AppError("forbidden", {
        detail: `The role ${caller.role} does not permit this operation.`,
      });
    }
    c.set("caller", caller);
    c.set("bearerSecret", secret);
    if (userRoles.has(caller.role)) await setScope(c, caller, findTenantId);
    return next();
  };
}

/**
 * Returns a check of whether the token of the request is still valid. The check never rejects. If
 * the database does not answer, it resolves to true: a stream then has no news.
 */
export function createPermitCheck(ctx: ControlContext, c: ApiContext): () => Promise<boolean> {
  const secret = c.get("bearerSecret") ?? "";
  return async () => {
    try {
      return (await authenticate(ctx, secret)) !== undefined;
    } catch {
      return true;
    }
  };
}

/**
 * A caller that is bound to a tenant sees that tenant, and may name it. Another caller may name any
 * tenant with the header Berth-Tenant. Without the header, lists contain all tenants, and names are
 * looked up in the tenant "default".
 */
async function setScope(c: ApiContext, caller: Caller, findTenantId: FindTenantId): Promise<void> {
  const named = c.req.header("berth-tenant");
  let scope = caller.tenantId;
  if (named !== undefined) {
    const id = nameSchema.safeParse(named).success ? await findTenantId(named) : undefined;
    // A foreign tenant and a missing tenant get the same response (I9).
    if (id === undefined || (scope !== null && id !== scope)) throw notFound("tenant");
    scope = id;
  }
  c.set("scope", scope);
  c.set("tenantId", scope ?? (await findTenantId(DEFAULT_TENANT)));
}

function unauthenticated(detail: string): AppError {
  return new AppError("unauthenticated", { detail });
}

/** Returns the secret of a Bearer header. */
export function readBearerSecret(header: string): string | undefined {
  return /^bearer +([\x21-\x7e]{1,256})$/i.exec(header)?.[1];
}

/** Returns the password of Basic credentials: alert senders put the token there. */
function readBasicSecret(header: string): string | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]{1,1024}={0,2})$/i.exec(header)?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon === -1 ? undefined : text.slice(colon + 1);
}
