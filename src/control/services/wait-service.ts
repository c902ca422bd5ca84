import { notFound } from "../../contracts/common/app-error.ts";
import type { Service } from "../../contracts/api/services.ts";
import { findService } from "../../db/queries/services/read-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { pollUntil } from "../runtime/wait-until.ts";

/**
 * Waits until the service is settled, or gone. Gives what is there when the wait ends, reached or not. A service that
 * is deleted and made again under its name meanwhile counts as gone. Throws not-found when there is none to begin with.
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
    // What is gone never settles: no use in waiting on.
    return { isDone: reached || service === null, value: { reached, service } };
  });
}
