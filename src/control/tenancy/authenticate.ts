import { findCallerBySecretHash } from "../../db/queries/tenancy/tokens.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext } from "../runtime/context.ts";

const SECRET_CHARS_MAX = 256;

/**
 * Finds the caller of a bearer secret. Returns undefined if the token is unknown, revoked or
 * expired. It runs one query by the hash, unless CallerTokenCache has the caller. Throws if the
 * database does not respond, so that a fault admits no caller.
 */
export async function authenticate(
  ctx: ControlContext,
  secret: string,
): Promise<Caller | undefined> {
  if (secret.length === 0 || secret.length > SECRET_CHARS_MAX) return undefined;
  const { db, tokenCache } = ctx;
  const hash = hashSecret(secret);
  if (tokenCache.isRejected(hash)) return undefined;
  return (
    tokenCache.find(hash) ??
    (await tokenCache.remember(hash, () => findCallerBySecretHash(db, hash)))
  );
}
