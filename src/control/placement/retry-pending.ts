import { listUnbalancedServices } from "../../db/queries/services/write-services.ts";
import {
  findLongestOverdueMs as findLongestOverdueSetMs,
  retryPendingSets,
} from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";

const SERVICES_PER_ROUND_MAX = 200;
/**
 * Sets that one gain of capacity makes due, in the transaction of its cause. Each is an update in
 * two indexes. Their backoff retries the others within half a minute.
 */
const WAITING_SETS_MAX = 5_000;

/**
 * Plans sets that wait for their retry now, because there is or may be new capacity.
 * @param subject the changed object: the id of a host, or a pool
 * @param setsMax how many sets may use the new capacity; retries of thousands that fit nowhere
 * would delay the placements of others
 */
export async function retryPending(
  tx: UnitOfWork,
  subject: string,
  cause: string,
  setsMax = WAITING_SETS_MAX,
): Promise<void> {
  if (!(await retryPendingSets(tx, Math.min(setsMax, WAITING_SETS_MAX)))) return;
  tx.enqueue({
    name: "place-sets",
    jobId: `place:${subject}:at${Date.now()}`,
    payload: { cause },
  });
}

/** Finds for how long the most overdue pending set is due. Returns undefined if none is due. */
export function findLongestOverdueMs(ctx: ControlContext): Promise<number | undefined> {
  return findLongestOverdueSetMs(ctx.db);
}

/** Finds services whose number of live sets differs from the desired one, at most 200. */
export function findUnbalancedServices(ctx: ControlContext): Promise<string[]> {
  return listUnbalancedServices(ctx.db, SERVICES_PER_ROUND_MAX);
}
