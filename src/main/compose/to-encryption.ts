import { Encryption } from "../../lib/encryption.ts";
import type { Secret } from "../../lib/secret.ts";

/** Returns the encryption with configured keys; undefined without one. */
export function toEncryption(keys: readonly Secret[] | undefined): Encryption | undefined {
  const [first, ...others] = keys ?? [];
  return first && new Encryption([first, ...others]);
}
