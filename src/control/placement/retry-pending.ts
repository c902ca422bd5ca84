import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { insertOutbox } from "../../db/queries/runtime/outbox.ts";
import { listUnbalancedServices } from "../../db/queries/services/write-services.ts";
import { hasDuePendingSets, retryPendingSets } from "../../db/queries/sets/write-sets.ts";
import type { ServiceContext } from "../runtime/context.ts";
import { type Aftermath, nothingLeft } from "../replicas/reconcile-replicas.ts";

const SERVICES_PER_ROUND_MAX = 200;
const WAITING_SETS_MAX = 20_000;

/** Whether any set should be planned by now: what the sweep asks before it runs the placer. */
export function findDuePlacements(ctx: ServiceContext): Promise<boolean> {
  return hasDuePendingSets(ctx.db);
}

/** Services with more or fewer live sets than they should have; a bounded batch. */
export function findUnbalancedServices(ctx: ServiceContext): Promise<string[]> {
  return listUnbalancedServices(ctx.db, SERVICES_PER_ROUND_MAX);
}

/**
 * There is more room than there was, or there may be: what waits out a backoff is planned now.
 * @param subject what has changed: the id of a host, or a pool
 * @param setsMax of how many it may be the room: planning thousands that fit nowhere each time a set goes would hold up everybody
 */
export async function planWaiting(
  tx: Queryable,
  subject: string,
  cause: string,
  setsMax = WAITING_SETS_MAX,
): Promise<Aftermath> {
  if (!(await retryPendingSets(tx, setsMax))) return nothingLeft();
  const ring = {
    name: "place-sets" as const,
    jobId: `place:${subject}:at${Date.now()}`,
    payload: { cause },
  };
  return { rings: [ring], outboxIds: await insertOutbox(tx, [ring]), signals: [] };
}
