import { allGrants, createTenantBody } from "../../contracts/api/tenancy.ts";
import { hostPoolBody } from "../../contracts/api/hosts.ts";
import { ensureHostPool } from "../../db/queries/hosts/host-pools.ts";
import { ensureTenant } from "../../db/queries/tenancy/tenants.ts";
import { hasAdminToken, insertToken } from "../../db/queries/tenancy/tokens.ts";
import { withTx } from "../../db/transaction.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../runtime/context.ts";

/** The default tenant is for installations without tenants, so its quota and grants limit nothing in practice. */
const defaultTenant = createTenantBody.parse({
  name: "default",
  quota: {
    setsMax: 1_000_000,
    cpuMillisMax: 1_024_000_000,
    memoryBytesMax: 2 ** 51,
    volumeBytesMax: 2 ** 51,
    rootfsBytesMax: 2 ** 51,
    trashBytesMax: 2 ** 51,
  },
  grants: allGrants,
});

/**
 * Makes sure of what every installation needs: the tenant "default", the host pool "default", and an admin token. With
 * `adminSecret` that secret is an admin's; without, a token is made only when no admin token is valid, and its
 * secret is given back, this once. Safe to run at every start, and from several processes.
 */
export async function ensureBootstrap(
  ctx: ControlContext,
  { adminSecret }: { adminSecret?: string | undefined } = {},
): Promise<{ adminSecret: string | undefined }> {
  return withTx(ctx.db, async (tx) => {
    await ensureTenant(tx, newId("tnt"), defaultTenant);
    await ensureHostPool(tx, "default", hostPoolBody.parse({}));
    if (adminSecret === undefined && (await hasAdminToken(tx))) return { adminSecret: undefined };
    const secret = adminSecret ?? newSecret();
    await insertToken(tx, {
      id: newId("tok"),
      name: "bootstrap",
      role: "admin",
      tenantId: null,
      hookId: null,
      pool: null,
      secretHash: hashSecret(secret),
      expiresInSeconds: null,
    });
    return { adminSecret: adminSecret === undefined ? secret : undefined };
  });
}
