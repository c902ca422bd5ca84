import { findCallerBySecretHash } from "../../db/queries/tenancy/tokens.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { ControlContext } from "../runtime/context.ts";

const SECRET_CHARS_MAX = 256;

/**
 * Whose bearer secret this is; undefined when it is nobody's, revoked or expired. One query by the hash, unless it was let in a moment
 * ago: see CallerTokenCache. Throws when the database does not answer, so that nobody is let in by a fault.
 */
export async function authenticate(
  ctx: ControlContext,
  secret: string,
): Promise<Caller | undefined> {
  if (secret.length === 0 || secret.length > SECRET_CHARS_MAX) return undefined;
  const { db, tokenCache } = ctx;
  const hash = hashSecret(secret);
  return (
    tokenCache.find(hash) ??
    (await tokenCache.remember(hash, () => findCallerBySecretHash(db, hash)))
  );
}
