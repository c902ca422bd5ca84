import type { JobRing } from "../contracts/jobs.ts";
import type { CreateService, Service, ServiceChange } from "../contracts/services.ts";
import type { SetTemplate } from "../contracts/set-template.ts";
import {
  insertService,
  type ServiceRow,
  type StoredService,
} from "../db/queries/service-writes.ts";
import { withTx } from "../db/tx.ts";
import { assert } from "../lib/assert.ts";
import { newId, newIds } from "../lib/ids.ts";
import type { ServiceContext } from "./context.ts";
import { assertWithinQuota } from "./quota.ts";
import { carryOut, placeSetsRing } from "./reconcile-service.ts";
import { assertSupported } from "./supported-features.ts";

/**
 * Stores a service with its first revision and its pending sets, all or nothing, then rings the placement job.
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
  const ring: JobRing | null = body.replicas === 0 ? null : placeSetsRing(service);
  const added = {
    ...service,
    template: body.template,
    setIds: newIds("set", body.replicas),
    event: {
      text: `${body.name} was created with ${body.replicas} sets`,
      data: { replicas: body.replicas },
    },
    ring,
  };
  const ask = {
    sets: body.replicas,
    cpuMillis: body.replicas * body.template.cpuMillis,
    memoryBytes: body.replicas * body.template.memoryBytes,
  };
  const stored =
    (await insertService(ctx.db, added, { farFromQuota: ask })) ??
    (await withTx(ctx.db, async (tx) => {
      await assertWithinQuota(tx, tenantId, ask);
      return insertService(tx, added, {});
    }));
  assert(stored, "a service that was inserted without a condition is there");
  if (ring) {
    await carryOut(ctx, {
      rings: [ring],
      outboxIds: stored.outboxId === null ? [] : [stored.outboxId],
      signals: [`service:${service.id}`],
    });
  }
  return {
    service: asCreated(service, body.template, stored),
    effects: [`${body.replicas} sets are placed and started.`],
  };
}

/** As a reader sees it at the moment of its creation. */
function asCreated(row: ServiceRow, template: SetTemplate, stored: StoredService): Service {
  const { tenantId: _tenantId, ...service } = row;
  return {
    ...service,
    tenant: stored.tenant,
    template,
    counts: {
      pending: row.replicas,
      placed: 0,
      preparing: 0,
      starting: 0,
      running: 0,
      ready: 0,
      stopping: 0,
      stopped: 0,
      failed: 0,
      lost: 0,
    },
    settled: row.replicas === 0,
    reason: null,
    createdAt: stored.createdAt,
    updatedAt: stored.createdAt,
  };
}
