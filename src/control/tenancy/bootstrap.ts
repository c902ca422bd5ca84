import { allGrants, createTenantBody } from "../../contracts/api/tenancy.ts";
import { hostPoolBody } from "../../contracts/api/hosts.ts";
import { ensureHostPool } from "../../db/queries/hosts/host-pools.ts";
import { ensureTenant } from "../../db/queries/tenancy/tenants.ts";
import { hasAdminToken, insertToken } from "../../db/queries/tenancy/tokens.ts";
import { withTx } from "../../db/transaction.ts";
import { newId } from "../../lib/ids.ts";
import { hashSecret, newSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../runtime/context.ts";

/** The default tenant serves installations without tenants, so its quota and grants are ample. */
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

/** The lifetime of an admin token that Berth creates without a request. */
const FIRST_TOKEN_SECONDS = 86_400;

/**
 * Creates missing objects that each installation needs: the tenant "default", the host pool
 * "default" and an admin token. `adminSecret` becomes the secret of an admin token. Without it, a
 * token is created only if no valid admin token exists; only this call returns its secret. It
 * expires after FIRST_TOKEN_SECONDS, because the journal of the machine may contain a secret that
 * was shown at a start. Several processes may call it at each start.
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
      expiresInSeconds: adminSecret === undefined ? FIRST_TOKEN_SECONDS : null,
    });
    return { adminSecret: adminSecret === undefined ? secret : undefined };
  });
}
