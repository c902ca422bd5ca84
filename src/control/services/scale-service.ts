import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { ServiceChange } from "../../contracts/api/services.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  getSizedTemplate,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideChangedService } from "../replicas/decide-service-replicas.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { assertSingleReplica } from "../replicas/assert-single-replica.ts";
import { readChangedService } from "./get-service.ts";
import { assertGranted } from "../tenancy/grants.ts";
import { assertWithinQuota, computeSetGrowth } from "../tenancy/quota.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import { formatCount } from "../../lib/text/format-count.ts";

/**
 * Changes the number of replicas of a service. Demands of alerts may keep the service above it. A
 * number outside the bounds of `autoscale` is refused, not clamped. The same number changes
 * nothing. Throws not-found, generation-mismatch, invalid-request, quota-exceeded, grant-missing.
 */
export async function scaleService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  { replicas }: { replicas: number },
  generation: number | undefined,
): Promise<ServiceChange> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    assertGeneration(service, generation);
    assertNotDeleting(service);
    assertWithinBounds(service, replicas);
    await assertSingleReplica(tx, { ...service, replicas });
    const before = service.desiredReplicas;
    const { desired, because } = await decideChangedService(tx, service, { ...service, replicas });
    const effects = describe(before, desired, replicas, because);
    if (replicas === service.replicas && desired === before)
      return { service: await readChangedService(tx, tenantId, name), effects };
    await assertMayGrow(tx, service, desired - before);
    const changed: ServiceRow = { ...service, replicas, desiredReplicas: desired };
    changed.generation = await updateService(tx, changed);
    tx.emit({
      kind: "service-scaled",
      tenantId,
      serviceId: service.id,
      generation: changed.generation,
      data: { cause: "request", service: name, from: before, to: desired, replicas },
    });
    await reconcileServiceSets(tx, changed);
    return { service: await readChangedService(tx, tenantId, name), effects };
  });
}

/** Throws invalid-request. */
export function assertWithinBounds(
  { autoscale }: Pick<ServiceRow, "autoscale">,
  replicas: number,
): void {
  if (!autoscale || (replicas >= autoscale.min && replicas <= autoscale.max)) return;
  throw new AppError("invalid-request", {
    detail: `replicas must lie between autoscale.min (${autoscale.min}) and autoscale.max (${autoscale.max}); change the bounds first.`,
    errors: [{ pointer: "/replicas", detail: `expected ${autoscale.min} to ${autoscale.max}` }],
  });
}

async function assertMayGrow(tx: Queryable, service: ServiceRow, addedSets: number): Promise<void> {
  if (addedSets <= 0) return;
  const template = await getSizedTemplate(tx, service);
  await assertGranted(tx, service.tenantId, service);
  await assertWithinQuota(tx, service.tenantId, computeSetGrowth(template, addedSets));
}

function describe(
  before: number,
  desired: number,
  replicas: number,
  because: readonly string[],
): string[] {
  const effects: string[] = [];
  if (desired > before) effects.push(`Berth will add ${formatCount(desired - before, "set")}.`);
  else if (desired < before)
    effects.push(`Berth will remove ${formatCount(before - desired, "set")}.`);
  else effects.push("The number of sets does not change.");
  if (desired !== replicas) effects.push(...because);
  return effects;
}
