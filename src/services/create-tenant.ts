import type { CreateTenant, Tenant } from "../contracts/access.ts";
import { insertTenant } from "../db/queries/tenants.ts";
import { withTx } from "../db/tx.ts";
import { assert } from "../lib/assert.ts";
import { newId } from "../lib/ids.ts";
import type { ServiceContext } from "./context.ts";

/** Throws already-exists. */
export async function createTenant(ctx: ServiceContext, body: CreateTenant): Promise<Tenant> {
  const tenant = await withTx(ctx.db, (tx) => insertTenant(tx, newId("tnt"), body));
  assert(tenant, "an inserted tenant is returned");
  return tenant;
}
