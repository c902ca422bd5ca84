import { notFound } from "../../contracts/common/app-error.ts";
import { insertEvents } from "../../db/queries/events/write-events.ts";
import { updateTokenRevoked } from "../../db/queries/tenancy/tokens.ts";
import { withTx } from "../../db/transaction.ts";
import type { ServiceContext } from "../runtime/context.ts";

/**
 * Refuses a token from now on; other processes may know its holder for two seconds more (CallerTokenCache). Revoking twice changes nothing
 * more. Throws not-found.
 */
export async function revokeToken(ctx: ServiceContext, tokenId: string): Promise<void> {
  await withTx(ctx.db, async (tx) => {
    const wasValid = await updateTokenRevoked(tx, tokenId);
    if (wasValid === undefined) throw notFound("token");
    if (!wasValid) return;
    await insertEvents(tx, [
      { kind: "token-revoked", text: "a token was revoked", data: { tokenId } },
    ]);
  });
  ctx.tokenCache.clear();
}
