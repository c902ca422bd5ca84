import type { CreateTenant, Tenant } from "../../contracts/api/tenancy.ts";
import { insertTenant } from "../../db/queries/tenancy/tenants.ts";
import { withTx } from "../../db/transaction.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Throws already-exists. */
export async function createTenant(ctx: ControlContext, body: CreateTenant): Promise<Tenant> {
  const tenant = await withTx(ctx.db, (tx) => insertTenant(tx, newId("tnt"), body));
  assert(tenant, "an inserted tenant is returned");
  return tenant;
}
