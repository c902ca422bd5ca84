import type { RotatedToken } from "../../contracts/api/tenancy.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { findToken, insertToken, updateTokenRotated } from "../../db/queries/tenancy/tokens.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Replaces a token with a new one of the same name, role, tenant and lifetime. The former token
 * ends after `overlapSeconds`, or at its own end. Throws not-found, and state-conflict for a token
 * that is not valid, of a hook, or of an enrollment.
 */
export async function rotateToken(
  ctx: ControlContext,
  caller: Pick<Caller, "tokenId">,
  tokenId: string,
  overlapSeconds: number,
): Promise<RotatedToken> {
  const id = newId("tok");
  const secret = newSecret();
  const tokens = await unitOfWork(ctx, async (tx) => {
    const rotated = await updateTokenRotated(tx, tokenId, overlapSeconds);
    const former = await findToken(tx, tokenId);
    if (!former) throw notFound("token");
    if (!rotated) throw notRotatable(former.role);
    const { name, role, tenantId, lifetimeSeconds } = rotated;
    await insertToken(tx, {
      id,
      name,
      role,
      tenantId,
      hookId: null,
      pool: null,
      secretHash: hashSecret(secret),
      expiresInSeconds: lifetimeSeconds,
    });
    tx.emit({
      kind: "token-created",
      // Only admins manage tokens, so no tenant may read this event.
      tenantId: null,
      data: {
        cause: "rotation",
        name,
        role,
        tokenId: id,
        formerTokenId: tokenId,
        tenant: former.tenant,
        by: caller.tokenId,
      },
    });
    return { token: await findToken(tx, id), former };
  });
  ctx.tokenCache.clear();
  assert(tokens.token, "an inserted token exists");
  return { token: tokens.token, secret, former: tokens.former };
}

function notRotatable(role: string): AppError {
  const details: Record<string, string> = {
    hook: "The token belongs to a hook. Rotate the token of the hook.",
    enroll: "An enroll token enrolls one host, once. Create another one.",
  };
  const detail = details[role] ?? "The token is revoked or has expired. Create a new one.";
  return new AppError("state-conflict", { detail });
}
