import { Keyring } from "../../lib/keyring.ts";
import type { Secret } from "../../lib/secret.ts";

/** Returns the keyring of the configured keys; undefined without one. */
export function toKeyring(keys: readonly Secret[] | undefined): Keyring | undefined {
  const [first, ...others] = keys ?? [];
  return first && new Keyring([first, ...others]);
}
