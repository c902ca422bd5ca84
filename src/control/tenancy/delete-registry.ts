import { notFound } from "../../contracts/common/app-error.ts";
import { parseRegistry } from "../../contracts/common/image-registry.ts";
import { deleteCredential } from "../../db/queries/tenancy/registry-credentials.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { wakeHostsOfTenant } from "./registry-credentials.ts";

/**
 * Deletes the credential of a tenant for a registry. Agents pull anonymously from then on. Needs no
 * encryption key. Throws not-found.
 */
export async function deleteRegistry(
  ctx: ControlContext,
  tenantId: string,
  name: string,
): Promise<void> {
  const registry = parseRegistry(name);
  if (registry === undefined) throw notFound("registry");
  await unitOfWork(ctx, async (tx) => {
    if (!(await deleteCredential(tx, tenantId, registry))) throw notFound("registry");
    await wakeHostsOfTenant(tx, tenantId);
    tx.emit({ kind: "registry-deleted", tenantId, data: { registry } });
  });
}
