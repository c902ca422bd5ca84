import {
  type PutRegistry,
  REGISTRIES_PER_TENANT_MAX,
  type Registry,
} from "../../contracts/api/registries.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { parseRegistry } from "../../contracts/common/image-registry.ts";
import {
  countCredentials,
  findRegistryOf,
  findSealedCredential,
  lockCredentials,
  putCredential,
} from "../../db/queries/tenancy/registry-credentials.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import {
  getKeyring,
  openPassword,
  sealPassword,
  wakeHostsOfTenant,
} from "./registry-credentials.ts";

/**
 * Stores the credential of a tenant for a registry, or replaces the previous one. Agents use it for
 * their next pulls. An equal credential changes nothing.
 *
 * Throws invalid-request for a name that no image can have, encryption-key-missing, and
 * state-conflict if the tenant has the maximum number.
 */
export async function putRegistry(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  { username, password }: PutRegistry,
): Promise<Registry> {
  const registry = parseRegistry(name);
  if (registry === undefined) throw invalidName();
  const keyring = getKeyring(ctx);
  const subject = { tenantId, registry, username };
  const sealed = await sealPassword(keyring, subject, password);
  return unitOfWork(ctx, async (tx) => {
    await lockCredentials(tx, tenantId);
    const before = await findSealedCredential(tx, tenantId, registry);
    if (!before && (await countCredentials(tx, tenantId)) >= REGISTRIES_PER_TENANT_MAX) {
      throw new AppError("state-conflict", {
        detail: `The tenant has credentials for ${REGISTRIES_PER_TENANT_MAX} registries, the maximum. Delete one first.`,
      });
    }
    const isEqual =
      before?.username === username &&
      before.keyId === keyring.keyId &&
      (await openPassword(keyring, before)) === password;
    if (!isEqual) {
      await putCredential(tx, { id: newId("reg"), ...subject, ...sealed });
      await wakeHostsOfTenant(tx, tenantId);
      tx.emit({ kind: "registry-stored", tenantId, data: { registry, username } });
    }
    const stored = await findRegistryOf(tx, tenantId, registry);
    assert(stored, "a stored credential is returned");
    return stored;
  });
}

function invalidName(): AppError {
  return new AppError("invalid-request", {
    detail:
      "The registry must be docker.io, or a host with a dot or a port, such as registry.example.com:5000.",
    errors: [{ pointer: "registry", detail: "expected docker.io, or a host with a dot or a port" }],
  });
}
