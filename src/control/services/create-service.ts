import {
  type CreateService,
  defaultHostLostPolicy,
  type Service,
  type ServiceChange,
} from "../../contracts/api/services.ts";
import { usesOnlyDefaultNetwork } from "../../contracts/agent-protocol/agent-features.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import {
  insertServices,
  type NewService,
  type ServiceRow,
  type StoredService,
} from "../../db/queries/services/write-services.ts";
import { withTx } from "../../db/transaction.ts";
import { assert } from "../../lib/assert.ts";
import { newId, newIds } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";
import { dispatchEffects } from "../runtime/unit-of-work.ts";
import { assertGranted } from "../tenancy/grants.ts";
import { computeSetAmounts, assertWithinQuota, computeSetGrowth } from "../tenancy/quota.ts";
import { jobsForNewSets, SETS_ADDED_MAX } from "../replicas/reconcile-replicas.ts";
import { assertSupported } from "../runtime/supported-features.ts";
import { ensureStaticDefaultNetwork } from "../networks/default-network.ts";
import { assertNetworksExist } from "../networks/assert-networks-exist.ts";
import { getTemplateSize } from "../rollouts/target-revision.ts";
import { assertNameFree } from "./assert-name-free.ts";
import { formatCount } from "../../lib/text/format-count.ts";

/** A service with more sets has a statement of its own, so that small ones do not wait for it. */
const BATCHED_SETS_MAX = 50;

/**
 * Stores a service with its first revision and at most SETS_ADDED_MAX pending sets, all or nothing,
 * and enqueues their placement. Jobs add the other sets. Throws unsupported, invalid-request,
 * quota-exceeded, grant-missing, already-exists.
 */
export async function createService(
  ctx: ControlContext,
  tenantId: string,
  body: CreateService,
): Promise<ServiceChange> {
  assertSupported(ctx.settings, body);
  await ensureStaticDefaultNetwork(ctx, tenantId, body.template);
  const service: ServiceRow = {
    id: newId("svc"),
    tenantId,
    name: body.name,
    generation: 1,
    revision: 1,
    targetRevision: 1,
    size: getTemplateSize(body.template),
    rootfsBytes: body.template.rootfsBytes,
    replicas: body.replicas,
    desiredReplicas: body.replicas,
    priority: body.priority,
    placement: body.placement,
    onHostLost: body.onHostLost ?? defaultHostLostPolicy(body.template),
    autoscale: body.autoscale,
    disruption: body.disruption,
    rollout: null,
    gatewayPorts: body.gatewayPorts,
    deleting: false,
  };
  const setIds = newIds("set", Math.min(body.replicas, SETS_ADDED_MAX));
  const jobs = body.replicas === 0 ? [] : jobsForNewSets(service, body.replicas - setIds.length);
  const added = {
    ...service,
    template: body.template,
    setIds,
    jobs,
  };
  const insertChecked = () =>
    withTx(ctx.db, async (tx) => {
      await assertGranted(tx, tenantId, body);
      await assertNetworksExist(tx, tenantId, body.template);
      await assertNameFree(tx, tenantId, body.name);
      await assertWithinQuota(tx, tenantId, computeSetGrowth(body.template, body.replicas));
      const [inserted] = await insertServices(tx, tenantId, [added]);
      assert(inserted, "a service that was inserted without a condition is there");
      return inserted;
    });
  const stored = await insertService(ctx, added, insertChecked);
  const { outboxIds } = stored;
  await dispatchEffects(ctx, { jobs, outboxIds, signals: [`service:${service.id}`, "events"] });
  return {
    service: asCreated(service, body.template, stored, setIds.length),
    effects: [`The scheduler will place ${formatCount(body.replicas, "set")}.`],
  };
}

/**
 * Inserts the service without a transaction if its tenant is far from its quota, and it needs no
 * special grant and no named network. Small services share a statement. Otherwise `insertChecked`
 * decides.
 */
async function insertService(
  ctx: ControlContext,
  service: NewService,
  insertChecked: () => Promise<StoredService>,
): Promise<StoredService> {
  const { tolerations, hostLabels } = service.placement;
  if (tolerations.length > 0 || Object.keys(hostLabels).length > 0) return insertChecked();
  if (!usesOnlyDefaultNetwork(service.template.networks)) return insertChecked();
  const isSmall = service.setIds.length <= BATCHED_SETS_MAX;
  if (isSmall && !ctx.unit) return ctx.serviceInserter.insert(service, insertChecked);
  const growthWithAmpleQuota = computeSetAmounts(service.template, service.desiredReplicas);
  const [stored] = await insertServices(ctx.db, service.tenantId, [service], {
    growthWithAmpleQuota,
  });
  return stored ?? insertChecked();
}

/** As a reader sees it at the moment of its creation. */
function asCreated(
  row: ServiceRow,
  template: SetTemplate,
  stored: StoredService,
  pending: number,
): Service {
  const { tenantId: _tenantId, rootfsBytes: _rootfsBytes, rollout: _rollout, ...service } = row;
  return {
    ...service,
    tenant: stored.tenant,
    template,
    updatedSets: pending,
    gatewayPorts: [...row.gatewayPorts],
    counts: {
      pending,
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
    addresses: [],
    createdAt: stored.createdAt,
    updatedAt: stored.createdAt,
  };
}
