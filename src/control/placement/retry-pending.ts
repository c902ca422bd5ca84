import { listUnbalancedServices } from "../../db/queries/services/write-services.ts";
import { findOldestDueSetMs, retryPendingSets } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";

const SERVICES_PER_ROUND_MAX = 200;
const WAITING_SETS_MAX = 20_000;

/** How long ago the most overdue pending set was due, in milliseconds; undefined when none is due. */
export function findOldestDueMs(ctx: ControlContext): Promise<number | undefined> {
  return findOldestDueSetMs(ctx.db);
}

/** Services with more or fewer live sets than they should have; a bounded batch. */
export function findUnbalancedServices(ctx: ControlContext): Promise<string[]> {
  return listUnbalancedServices(ctx.db, SERVICES_PER_ROUND_MAX);
}

/**
 * There is more room than there was, or there may be: what waits out a backoff is planned now.
 * @param subject what has changed: the id of a host, or a pool
 * @param setsMax of how many it may be the room: planning thousands that fit nowhere each time a set goes would hold up everybody
 */
export async function retryPending(
  tx: UnitOfWork,
  subject: string,
  cause: string,
  setsMax = WAITING_SETS_MAX,
): Promise<void> {
  if (!(await retryPendingSets(tx, setsMax))) return;
  tx.enqueue({
    name: "place-sets",
    jobId: `place:${subject}:at${Date.now()}`,
    payload: { cause },
  });
}
