import type { HostPool } from "../../contracts/api/hosts.ts";
import {
  findHostPool,
  type HostPoolKnobs,
  lockHostPools,
  putHostPool as putPoolRow,
} from "../../db/queries/hosts/host-pools.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { retryPending } from "../placement/retry-pending.ts";

/**
 * Makes a pool, or replaces its knobs. Placements from now on go by them, and what waits is planned at once; nothing placed is moved.
 * Throws generation-mismatch when the pool is not at the version that the caller has read (undefined: it does not care).
 */
export async function putHostPool(
  ctx: ControlContext,
  name: string,
  knobs: HostPoolKnobs,
  version: number | undefined,
): Promise<HostPool> {
  const pool = await unitOfWork(ctx, async (tx) => {
    await lockHostPools(tx);
    const before = await findHostPool(tx, name);
    assertGeneration({ generation: before?.version ?? 0 }, version, "host pool");
    const put = await putPoolRow(tx, name, knobs);
    await retryPending(tx, `pool-${name}`, "pool-changed");
    return put;
  });
  assert(pool, "a pool that was put is returned");
  return pool;
}
