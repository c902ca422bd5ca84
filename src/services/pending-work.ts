import { listUnbalancedServices } from "../db/queries/service-writes.ts";
import { hasDuePendingSets } from "../db/queries/set-writes.ts";
import type { ServiceContext } from "./context.ts";

const SERVICES_PER_ROUND_MAX = 200;

/** Whether any set should be planned by now: what the sweep asks before it runs the placer. */
export function findDuePlacements(ctx: ServiceContext): Promise<boolean> {
  return hasDuePendingSets(ctx.db);
}

/** Services with more or fewer live sets than they should have; a bounded batch. */
export function findUnbalancedServices(ctx: ServiceContext): Promise<string[]> {
  return listUnbalancedServices(ctx.db, SERVICES_PER_ROUND_MAX);
}
