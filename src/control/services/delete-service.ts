import { notFound } from "../../contracts/common/app-error.ts";
import type { ServiceChange } from "../../contracts/api/services.ts";
import {
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { closeServices } from "./close-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { getService } from "./get-service.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";

/** Stops and removes all sets of a service; it is gone when the last of them is. Deleting twice is no error until then. */
export async function deleteService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  generation: number | undefined,
): Promise<ServiceChange> {
  const outcome = await unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    if (service.deleting) return undefined;
    assertGeneration(service, generation);
    const changed: ServiceRow = { ...service, deleting: true };
    changed.generation = await updateService(tx, changed);
    tx.emit({
      kind: "service-deleted",
      text: `${name} is being deleted`,
      tenantId,
      serviceId: service.id,
      generation: changed.generation,
    });
    return reconcileServiceSets(tx, changed);
  });
  // Read before it may be closed: the answer shows what was deleted.
  const service = await getService(ctx, tenantId, name);
  if (outcome) await closeServices(ctx);
  return { service, effects: [`${outcome?.deleted ?? 0} sets are stopped and removed.`] };
}
