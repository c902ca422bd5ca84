import { AppError } from "../../contracts/common/app-error.ts";
import {
  listHostsOfTenant,
  type SealedCredentialRow,
} from "../../db/queries/tenancy/registry-credentials.ts";
import type { Keyring, SealedText } from "../../lib/keyring.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";

/** More hosts receive a change with their next full answer, within a minute. */
const HOSTS_WOKEN_MAX = 10_000;

type Subject = Pick<SealedCredentialRow, "tenantId" | "registry" | "username">;

/** Encrypts the password of a credential, bound to its tenant, registry and user. */
export function sealPassword(
  keyring: Keyring,
  subject: Subject,
  password: string,
): Promise<SealedText> {
  return keyring.encrypt(password, toAdditionalData(subject));
}

/** Returns undefined if this process lacks the key, or if the row was altered. */
export function openPassword(
  keyring: Keyring,
  row: SealedCredentialRow,
): Promise<string | undefined> {
  return keyring.decrypt(row, toAdditionalData(row));
}

/** Throws encryption-key-missing. */
export function getKeyring({ keyring }: ControlContext): Keyring {
  if (keyring) return keyring;
  throw new AppError("encryption-key-missing", {
    detail:
      "Berth stores credentials only encrypted, and this installation has no key. Its operator must set BERTH_ENCRYPTION_KEYS.",
  });
}

/**
 * Wakes the hosts of a tenant's sets, so that their agents receive its credentials. A lost signal
 * delays a change until the next full answer, for at most a minute. No generation increases,
 * because nothing on the hosts changes.
 */
export async function wakeHostsOfTenant(tx: UnitOfWork, tenantId: string): Promise<void> {
  const hostIds = await listHostsOfTenant(tx, tenantId, HOSTS_WOKEN_MAX);
  tx.signal(...hostIds.map((hostId) => `host:${hostId}` as const));
}

function toAdditionalData({ tenantId, registry, username }: Subject): string {
  return JSON.stringify(["registry-credential", tenantId, registry, username]);
}
