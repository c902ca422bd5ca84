import { notFound } from "../../contracts/common/app-error.ts";
import type { Service } from "../../contracts/api/services.ts";
import { findService } from "../../db/queries/services/read-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { pollUntil } from "../runtime/wait-until.ts";

/**
 * Waits until the service is settled or deleted. Returns the service at the end of the wait, even
 * if it has not reached the goal. A service that is deleted and created again counts as deleted.
 * Throws not-found when it does not exist at the beginning.
 */
export async function waitService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  query: { for: "settled" | "deleted"; timeoutSeconds: number },
  signal: AbortSignal,
): Promise<{ reached: boolean; service: Service | null }> {
  const first = await findService(ctx.db, tenantId, name);
  if (!first) throw notFound("service");
  return pollUntil(ctx, `service:${first.id}`, query.timeoutSeconds * 1000, signal, async () => {
    const found = await findService(ctx.db, tenantId, name);
    const service = found?.id === first.id ? found : null;
    const reached = query.for === "deleted" ? service === null : (service?.settled ?? false);
    // A deleted service never settles.
    return { isDone: reached || service === null, value: { reached, service } };
  });
}
