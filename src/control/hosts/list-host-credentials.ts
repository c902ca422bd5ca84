import {
  CREDENTIALS_PER_SYNC_MAX,
  type RegistryCredential,
} from "../../contracts/agent-protocol/registry-credential.ts";
import { findRegistry } from "../../contracts/common/image-registry.ts";
import { listHostCredentials as listRows } from "../../db/queries/tenancy/registry-credentials.ts";
import type { ControlContext } from "../runtime/context.ts";
import { openPassword } from "../tenancy/registry-credentials.ts";

/**
 * Lists the credentials that a host needs to pull the images of its sets, and no others. Returns
 * undefined without an encryption key: the agent then continues to use those that it has.
 */
export async function listHostCredentials(
  ctx: ControlContext,
  hostId: string,
): Promise<RegistryCredential[] | undefined> {
  const { keyring } = ctx;
  if (!keyring) return undefined;
  const rows = await listRows(ctx.db, hostId, CREDENTIALS_PER_SYNC_MAX);
  const needed = rows.filter(
    ({ registry, images }) =>
      images === null || images.some((image) => findRegistry(image) === registry),
  );
  return Promise.all(
    needed.map(async (row) => {
      const password = (await openPassword(keyring, row)) ?? null;
      return { tenant: row.tenant, registry: row.registry, username: row.username, password };
    }),
  );
}
