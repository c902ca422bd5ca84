import { findCallerBySecretHash } from "../db/queries/tokens.ts";
import { hashSecret } from "../lib/secrets.ts";
import type { Caller, ServiceContext } from "./context.ts";

const SECRET_CHARS_MAX = 256;

/**
 * Whose bearer secret this is; undefined when it is nobody's, revoked or expired. One query by the hash, unless it was let in a moment
 * ago: see KnownCallers. Throws when the database does not answer, so that nobody is let in by a fault.
 */
export async function authenticate(
  ctx: ServiceContext,
  secret: string,
): Promise<Caller | undefined> {
  if (secret.length === 0 || secret.length > SECRET_CHARS_MAX) return undefined;
  const { db, knownCallers } = ctx;
  const hash = hashSecret(secret);
  return (
    knownCallers.find(hash) ??
    (await knownCallers.remember(hash, () => findCallerBySecretHash(db, hash)))
  );
}
