import type { CreateToken, Token } from "../../contracts/api/tenancy.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { hasHostPool } from "../../db/queries/hosts/host-pools.ts";
import { findTenantByName } from "../../db/queries/tenancy/tenants.ts";
import { findToken, insertToken } from "../../db/queries/tenancy/tokens.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Creates a token. Only this answer contains its secret. Throws invalid-request for an unknown
 * tenant or pool.
 */
export async function createToken(
  ctx: ControlContext,
  caller: Pick<Caller, "tokenId">,
  body: CreateToken,
): Promise<{ token: Token; secret: string }> {
  const id = newId("tok");
  const secret = newSecret();
  const token = await unitOfWork(ctx, async (tx) => {
    const tenantId = body.tenant === undefined ? null : await getTenantId(tx, body.tenant);
    const pool = body.role === "enroll" ? (body.pool ?? "default") : null;
    if (pool !== null && !(await hasHostPool(tx, pool))) {
      throw invalid("pool", `Host pool ${pool} does not exist.`);
    }
    await insertToken(tx, {
      id,
      name: body.name,
      role: body.role,
      tenantId,
      hookId: null,
      pool,
      secretHash: hashSecret(secret),
      expiresInSeconds: body.expiresInSeconds ?? null,
    });
    tx.emit({
      kind: "token-created",
      // Only admins manage tokens, so no tenant may read this event.
      tenantId: null,
      data: {
        cause: "token",
        name: body.name,
        role: body.role,
        tokenId: id,
        tenant: body.tenant ?? null,
        by: caller.tokenId,
      },
    });
    return findToken(tx, id);
  });
  assert(token, "an inserted token exists");
  return { token, secret };
}

async function getTenantId(tx: Queryable, name: string): Promise<string> {
  const tenant = await findTenantByName(tx, name);
  if (!tenant) throw invalid("tenant", `Tenant ${name} does not exist.`);
  return tenant.id;
}

function invalid(member: string, detail: string): AppError {
  return new AppError("invalid-request", { detail, errors: [{ pointer: `/${member}`, detail }] });
}
