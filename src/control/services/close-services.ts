import {
  closeDeletedServices,
  type ClosedService,
} from "../../db/queries/services/close-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

const SERVICES_PER_ROUND_MAX = 500;
/** The rules that the text of an event names. */
const RULES_NAMED_MAX = 5;

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
  const withRules = closed.filter(({ rules }) => rules.length > 0);
  if (withRules.length > 0) await reportDeletedRules(ctx, withRules);
  return closed.length;
}

/** A crash before this costs only the events. Without the signal, hosts learn it by their polls. */
async function reportDeletedRules(
  ctx: ControlContext,
  services: readonly ClosedService[],
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    for (const { tenantId, name: service, rules } of services)
      for (const { networkId, network, names } of rules) {
        const named = { network, rules: names.slice(0, RULES_NAMED_MAX), count: names.length };
        const data = { cause: "service-deleted", service, ...named } as const;
        tx.emit({ kind: "rules-deleted", tenantId, data });
        tx.signal(`network:${networkId}`);
      }
  });
}
