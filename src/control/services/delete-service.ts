import { notFound } from "../../contracts/common/app-error.ts";
import type { ServiceChange } from "../../contracts/api/services.ts";
import {
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { countLiveSets } from "../../db/queries/sets/write-sets.ts";
import { closeServices } from "./close-services.ts";
import { cancelRollouts } from "../rollouts/cancel-rollouts.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { readChangedService } from "./get-service.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import { formatCount } from "../../lib/text/format-count.ts";

/**
 * Stops and removes all sets of a service, in rounds. The removal of the last set completes the
 * deletion. A second deletion changes nothing.
 */
export async function deleteService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  generation: number | undefined,
): Promise<ServiceChange> {
  const change = await unitOfWork(ctx, async (tx): Promise<ServiceChange> => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    const live = await countLiveSets(tx, service.id);
    const effects = [`Berth will stop and remove ${formatCount(live, "set")}.`];
    if (service.deleting) return { service: await readChangedService(tx, tenantId, name), effects };
    assertGeneration(service, generation);
    const changed: ServiceRow = { ...service, deleting: true };
    await cancelRollouts(tx, changed);
    changed.generation = await updateService(tx, changed);
    tx.emit({
      kind: "service-deleted",
      data: { service: name },
      tenantId,
      serviceId: service.id,
      generation: changed.generation,
    });
    await reconcileServiceSets(tx, changed);
    return { service: await readChangedService(tx, tenantId, name), effects };
  });
  await closeServices(ctx, [change.service.id]);
  return change;
}
