import { closeDeletedServices } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";

const SERVICES_PER_ROUND_MAX = 500;

/**
 * Completes the deletion of services without remaining sets. Sets on lost hosts do not count. A
 * report passes the services of the sets that it removes. The `service-deletion` sweep passes none,
 * which means all.
 */
export async function closeServices(
  ctx: ControlContext,
  serviceIds?: readonly string[],
): Promise<number> {
  const closed = await closeDeletedServices(ctx.db, SERVICES_PER_ROUND_MAX, serviceIds);
  if (closed.length > 0)
    await ctx.signals.publish(closed.map((service) => `service:${service.id}` as const));
  return closed.length;
}
