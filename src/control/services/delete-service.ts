import { notFound } from "../../contracts/common/app-error.ts";
import type { ServiceChange } from "../../contracts/api/services.ts";
import { insertEvents } from "../../db/queries/events/write-events.ts";
import {
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { withTx } from "../../db/transaction.ts";
import { closeServices } from "./close-services.ts";
import type { ServiceContext } from "../runtime/context.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { getService } from "./get-service.ts";
import { carryOut, reconcileServiceSets } from "../replicas/reconcile-replicas.ts";

/** Stops and removes all sets of a service; it is gone when the last of them is. Deleting twice is no error until then. */
export async function deleteService(
  ctx: ServiceContext,
  tenantId: string,
  name: string,
  generation: number | undefined,
): Promise<ServiceChange> {
  const outcome = await withTx(ctx.db, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    if (service.deleting) return undefined;
    assertGeneration(service, generation);
    const changed: ServiceRow = { ...service, deleting: true };
    changed.generation = await updateService(tx, changed);
    await insertEvents(tx, [
      {
        kind: "service-deleted",
        text: `${name} is being deleted`,
        tenantId,
        serviceId: service.id,
        generation: changed.generation,
      },
    ]);
    return reconcileServiceSets(tx, changed);
  });
  // Read before it may be closed: the answer shows what was deleted.
  const service = await getService(ctx, tenantId, name);
  if (outcome) {
    await carryOut(ctx, outcome);
    await closeServices(ctx);
  }
  return { service, effects: [`${outcome?.deleted ?? 0} sets are stopped and removed.`] };
}
