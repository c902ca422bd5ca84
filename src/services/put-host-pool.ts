import type { HostPool } from "../contracts/hosts.ts";
import { type HostPoolKnobs, putHostPool as putPoolRow } from "../db/queries/host-pools.ts";
import { withTx } from "../db/tx.ts";
import { assert } from "../lib/assert.ts";
import type { ServiceContext } from "./context.ts";

/** Makes a pool, or replaces its knobs. Placements from the next plan on go by them; nothing placed is moved. */
export async function putHostPool(
  ctx: ServiceContext,
  name: string,
  knobs: HostPoolKnobs,
): Promise<HostPool> {
  const pool = await withTx(ctx.db, (tx) => putPoolRow(tx, name, knobs));
  assert(pool, "a pool that was put is returned");
  return pool;
}
