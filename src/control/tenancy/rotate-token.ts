import type { RotatedToken } from "../../contracts/api/tenancy.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  findToken,
  insertToken,
  type LockedTokenRow,
  lockToken,
  updateTokenRotated,
} from "../../db/queries/tenancy/tokens.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Replaces a token with a new one of the same name, role, tenant and lifetime. The previous token
 * expires after `overlapSeconds`, or at its own expiry. A token has at most one successor, so that
 * the number of valid tokens is bounded: a further rotation replaces the successor.
 *
 * Throws not-found, and state-conflict for a token that is not valid, was rotated before, or is of
 * a hook or an enrollment.
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
    const locked = await lockToken(tx, tokenId);
    if (!locked) throw notFound("token");
    assertRotatable(locked);
    const { name, role, tenantId, lifetimeSeconds } = locked;
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
    await updateTokenRotated(tx, tokenId, id, overlapSeconds);
    const former = await findToken(tx, tokenId);
    assert(former, "a locked token exists");
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

function assertRotatable({ role, isValid, successorId }: LockedTokenRow): void {
  if (role === "hook") throw conflict("The token belongs to a hook. Rotate the token of the hook.");
  if (role === "enroll")
    throw conflict("An enroll token enrolls one host, once. Create another one.");
  if (!isValid) throw conflict("The token is revoked or has expired. Create a new one.");
  if (successorId !== null) {
    throw conflict(
      `The token was already rotated. Rotate its successor ${successorId}, or create a new token.`,
    );
  }
}

function conflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
