import type { CreateService, ServiceChange } from "../contracts/services.ts";
import { insertEvents } from "../db/queries/events.ts";
import { findService } from "../db/queries/service-reads.ts";
import { insertService, type ServiceRow } from "../db/queries/service-writes.ts";
import { withTx } from "../db/tx.ts";
import { assert } from "../lib/assert.ts";
import { newId } from "../lib/ids.ts";
import type { ServiceContext } from "./context.ts";
import { assertWithinQuota } from "./quota.ts";
import { addSets, carryOut } from "./reconcile-service.ts";
import { assertSupported } from "./supported-features.ts";

/**
 * Stores a service with its first revision and its pending sets in one transaction, then rings the placement job.
 * Throws unsupported, quota-exceeded, already-exists.
 */
export async function createService(
  ctx: ServiceContext,
  tenantId: string,
  body: CreateService,
): Promise<ServiceChange> {
  assertSupported(body);
  const service: ServiceRow = {
    id: newId("svc"),
    tenantId,
    name: body.name,
    generation: 1,
    revision: 1,
    replicas: body.replicas,
    desiredReplicas: body.replicas,
    priority: body.priority,
    placement: body.placement,
    onHostLost: body.onHostLost,
    autoscale: body.autoscale,
    deleting: false,
  };
  const { created, outcome } = await withTx(ctx.db, async (tx) => {
    await assertWithinQuota(tx, tenantId, {
      sets: body.replicas,
      cpuMillis: body.replicas * body.template.cpuMillis,
      memoryBytes: body.replicas * body.template.memoryBytes,
    });
    // None needs another's answer, so they share one round trip; Postgres carries them out in this order.
    const [, , added, stored] = await Promise.all([
      insertService(tx, { ...service, template: body.template }),
      insertEvents(tx, [
        {
          kind: "service-created",
          text: `${body.name} was created with ${body.replicas} sets`,
          tenantId,
          serviceId: service.id,
          generation: 1,
          data: { replicas: body.replicas },
        },
      ]),
      body.replicas > 0 ? addSets(tx, service, body.template, body.replicas) : undefined,
      findService(tx, tenantId, body.name),
    ]);
    assert(stored, "a service that was inserted is there");
    return { created: stored, outcome: added };
  });
  if (outcome) await carryOut(ctx, outcome);
  return { service: created, effects: [`${body.replicas} sets are placed and started.`] };
}
