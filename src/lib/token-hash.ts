import { createHash } from "node:crypto";

const secretBytes = 32;

/** A new bearer secret of 256 random bits, such as `brt_…`; `prefix` says what kind of secret a leaked one is. */
export function newSecret(prefix = "brt"): string {
  const bytes = crypto.getRandomValues(new Uint8Array(secretBytes));
  return `${prefix}_${Buffer.from(bytes).toString("base64url")}`;
}

/**
 * What is stored of a secret: SHA-256 in hex. Secrets are random and long, so neither salt nor stretching is needed;
 * being looked up by this hash, they are never compared byte by byte.
 */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}
