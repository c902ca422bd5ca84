import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  type HostLostPolicy,
  type PatchService,
  REPLACE_WITH_VOLUME_TEXT,
  type ServiceChange,
} from "../../contracts/api/services.ts";
import {
  getSizedTemplate,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { updatePendingPriority } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { findActiveRollout } from "../../db/queries/rollouts/rollouts.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideChangedService } from "../replicas/decide-service-replicas.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { ensureStaticDefaultNetwork } from "../networks/default-network.ts";
import { assertSingleReplica } from "../replicas/assert-single-replica.ts";
import { assertNetworksExist } from "../networks/assert-networks-exist.ts";
import { readChangedService } from "./get-service.ts";
import { adoptTarget, applyTemplate, getTemplateSize } from "../rollouts/target-revision.ts";
import { isSameSize } from "./resize-steps.ts";
import { assertGranted } from "../tenancy/grants.ts";
import { computeSetAmounts, assertWithinQuota, subtractAmounts } from "../tenancy/quota.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import { assertSupported } from "../runtime/supported-features.ts";
import { formatCount } from "../../lib/text/format-count.ts";

/**
 * Changes a service at the given generation. A changed template becomes the target revision, which
 * waits for a rollout unless the patch adopts it: then sets created from now on have it. Sets that
 * exist keep theirs. Amounts in the template change no revision, only the size of new sets.
 *
 * Throws not-found, generation-mismatch, unsupported, invalid-request, quota-exceeded,
 * grant-missing.
 */
export async function patchService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  generation: number,
  patch: PatchService,
): Promise<ServiceChange> {
  assertSupported(ctx.settings, patch);
  await ensureStaticDefaultNetwork(ctx, tenantId, patch.template);
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    assertGeneration(service, generation);
    assertNotDeleting(service);
    const changed = applyPatch(service, patch);
    if (patch.placement || patch.priority !== undefined) await assertGranted(tx, tenantId, changed);
    if (patch.template || patch.adopt) await assertNoRollout(tx, service.id);
    if (patch.template) await assertNetworksExist(tx, tenantId, patch.template);
    if (patch.template) await applyTemplate(tx, service, changed, patch.template);
    if (patch.adopt) await adoptTarget(tx, changed);
    if (patch.template || patch.autoscale) await assertSingleReplica(tx, changed);
    const decision = await decideChangedService(tx, service, changed);
    changed.desiredReplicas = decision.desired;
    const hasVolume = changed.size.volumeBytes > 0 || Boolean(patch.template?.volume);
    if (hasVolume && changed.onHostLost === "replace") {
      if (patch.onHostLost === "replace") throw replaceWithVolume();
      changed.onHostLost = "wait";
    }
    const [before, after] = [
      await getSizedTemplate(tx, service),
      await getSizedTemplate(tx, changed),
    ];
    changed.rootfsBytes = after.rootfsBytes;
    // The quota counts what is stored.
    changed.size = getTemplateSize(after);
    await assertWithinQuota(tx, tenantId, {
      intended: subtractAmounts(
        computeSetAmounts(after, changed.desiredReplicas),
        computeSetAmounts(before, service.desiredReplicas),
      ),
      // Sets that exist keep their size, so only additional ones grow.
      existing: computeSetAmounts(
        after,
        Math.max(0, changed.desiredReplicas - service.desiredReplicas),
      ),
    });
    changed.generation = await updateService(tx, changed);
    tx.emit({
      kind: "service-changed",
      tenantId,
      serviceId: service.id,
      generation: changed.generation,
      data: { service: name, changed: Object.keys(patch), revision: changed.targetRevision },
    });
    await reconcileServiceSets(tx, changed);
    // Last, because hosts are locked before sets. Only pending sets use a priority.
    if (changed.priority !== service.priority)
      await updatePendingPriority(tx, service.id, changed.priority);
    const effects = describe(service, changed, patch);
    return { service: await readChangedService(tx, tenantId, name), effects };
  });
}

/** Throws state-conflict. An active rollout owns the target revision. */
async function assertNoRollout(tx: UnitOfWork, serviceId: string): Promise<void> {
  const active = await findActiveRollout(tx, serviceId);
  if (!active) return;
  throw new AppError("state-conflict", {
    detail: `Rollout ${active.number} of the service is ${active.state}. Wait for its end, or supersede it with another rollout.`,
  });
}

function replaceWithVolume(): AppError {
  return new AppError("invalid-request", {
    detail: REPLACE_WITH_VOLUME_TEXT,
    errors: [{ pointer: "/onHostLost", detail: REPLACE_WITH_VOLUME_TEXT }],
  });
}

const hostLostEffects: Record<HostLostPolicy, string> = {
  replace: "`onHostLost` is now `replace`: new sets take the place of those on a lost host.",
  wait: "`onHostLost` is now `wait`: sets on a lost host wait for it to return.",
  "replace-without-data":
    "`onHostLost` is now `replace-without-data`: a set whose host is lost starts elsewhere with an empty volume.",
};

function applyPatch(service: ServiceRow, patch: PatchService): ServiceRow {
  const changed: ServiceRow = {
    ...service,
    priority: patch.priority ?? service.priority,
    placement: patch.placement ?? service.placement,
    onHostLost: patch.onHostLost ?? service.onHostLost,
    autoscale: patch.autoscale === undefined ? service.autoscale : patch.autoscale,
    disruption: patch.disruption ?? service.disruption,
  };
  const { autoscale, replicas } = changed;
  if (autoscale && (replicas < autoscale.min || replicas > autoscale.max)) {
    throw new AppError("invalid-request", {
      detail: `The service has ${replicas} replicas, outside of the new bounds ${autoscale.min} to ${autoscale.max}: scale it first.`,
      errors: [{ pointer: "/autoscale", detail: `expected bounds that contain ${replicas}` }],
    });
  }
  return changed;
}

function describe(before: ServiceRow, after: ServiceRow, patch: PatchService): string[] {
  const effects: string[] = [];
  if (after.revision !== before.revision) {
    effects.push(
      `Sets created from now on have revision ${after.revision}; sets that exist keep theirs.`,
    );
  } else if (after.targetRevision !== after.revision) {
    effects.push(
      `Revision ${after.targetRevision} is the target. Existing and new sets have revision ${after.revision} until a rollout, or until a patch with "adopt": "new-sets".`,
    );
  }
  if (!isSameSize(before.size, after.size)) {
    effects.push(
      "Sets created from now on have the new size; sets that exist keep theirs until a resize.",
    );
  }
  if (patch.placement)
    effects.push("Sets placed from now on use the new placement. Placed sets are not moved.");
  if (after.onHostLost !== before.onHostLost) effects.push(hostLostEffects[after.onHostLost]);
  if (after.priority !== before.priority)
    effects.push("Pending sets and sets created from now on have the new priority.");
  const added = after.desiredReplicas - before.desiredReplicas;
  if (added > 0) effects.push(`Berth will add ${formatCount(added, "set")}.`);
  if (added < 0) effects.push(`Berth will remove ${formatCount(-added, "set")}.`);
  if (effects.length === 0) effects.push("The change affects none of the sets.");
  return effects;
}
