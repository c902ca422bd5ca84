import { notFound } from "../../contracts/common/app-error.ts";
import { updateTokenRevoked } from "../../db/queries/tenancy/tokens.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Revokes a token. Other processes may accept the token for up to 2 s (CallerTokenCache). A second
 * revocation changes nothing. Throws not-found.
 */
export async function revokeToken(ctx: ControlContext, tokenId: string): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const wasValid = await updateTokenRevoked(tx, tokenId);
    if (wasValid === undefined) throw notFound("token");
    if (!wasValid) return;
    tx.emit({ kind: "token-revoked", data: { cause: "token", tokenId } });
  });
  ctx.tokenCache.clear();
}
