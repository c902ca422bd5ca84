import type { HostPool } from "../contracts/hosts.ts";
import {
  findHostPool,
  type HostPoolKnobs,
  lockHostPools,
  putHostPool as putPoolRow,
} from "../db/queries/host-pools.ts";
import { withTx } from "../db/tx.ts";
import { assert } from "../lib/assert.ts";
import type { ServiceContext } from "./context.ts";
import { assertGeneration } from "./generation.ts";

/**
 * Makes a pool, or replaces its knobs. Placements from the next plan on go by them; nothing placed is moved. Throws
 * generation-mismatch when the pool is not at the version that the caller has read (undefined: it does not care).
 */
export async function putHostPool(
  ctx: ServiceContext,
  name: string,
  knobs: HostPoolKnobs,
  version: number | undefined,
): Promise<HostPool> {
  const pool = await withTx(ctx.db, async (tx) => {
    await lockHostPools(tx);
    const before = await findHostPool(tx, name);
    assertGeneration({ generation: before?.version ?? 0 }, version, "host pool");
    return putPoolRow(tx, name, knobs);
  });
  assert(pool, "a pool that was put is returned");
  return pool;
}
