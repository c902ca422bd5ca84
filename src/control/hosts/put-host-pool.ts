import type { HostPool } from "../../contracts/api/hosts.ts";
import {
  findHostPool,
  type HostPoolPolicy,
  lockHostPools,
  putHostPool as putPoolRow,
} from "../../db/queries/hosts/host-pools.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { retryPending } from "../placement/retry-pending.ts";

/**
 * Creates a pool, or replaces its policy. Berth retries pending sets immediately. Placed sets are
 * not moved. Throws generation-mismatch if the pool has a different version than `version`. If it
 * is undefined, every version matches.
 */
export async function putHostPool(
  ctx: ControlContext,
  name: string,
  policy: HostPoolPolicy,
  version: number | undefined,
): Promise<HostPool> {
  const pool = await unitOfWork(ctx, async (tx) => {
    await lockHostPools(tx);
    const before = await findHostPool(tx, name);
    assertGeneration({ generation: before?.version ?? 0 }, version, "host pool");
    const put = await putPoolRow(tx, name, policy);
    await retryPending(tx, `pool-${name}`, "pool-changed");
    return put;
  });
  assert(pool, "a stored pool is returned");
  return pool;
}
