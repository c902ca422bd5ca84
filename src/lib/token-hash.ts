import { createHash, createHmac } from "node:crypto";

const secretBytes = 32;

/** Returns a new bearer secret of 256 random bits. Its prefix identifies a leaked secret. */
export function newSecret(prefix = "brt"): string {
  const bytes = crypto.getRandomValues(new Uint8Array(secretBytes));
  return `${prefix}_${Buffer.from(bytes).toString("base64url")}`;
}

/**
 * Returns the stored form of a secret: SHA-256 in hex. Secrets are random and long and thus need
 * neither salt nor stretching. Lookup by hash never compares secrets byte by byte.
 */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

/** Signs a text with a shared key: HMAC-SHA256 in hex. */
export function signText(text: string, key: string): string {
  return createHmac("sha256", key).update(text).digest("hex");
}
