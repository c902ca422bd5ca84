import { isDeepStrictEqual } from "node:util";
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
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { updatePendingPriority } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type ActiveRollout, findActiveRollout } from "../../db/queries/rollouts/rollouts.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideChangedService } from "../replicas/decide-service-replicas.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { ensureStaticDefaultNetwork } from "../networks/default-network.ts";
import { assertSingleReplica } from "../replicas/assert-single-replica.ts";
import { assertNetworksExist } from "../networks/assert-networks-exist.ts";
import { readChangedService } from "./get-service.ts";
import { resolveStrategy, type RolloutStrategy } from "../../contracts/api/rollouts.ts";
import { prepareRollout } from "../rollouts/prepare-rollout.ts";
import { startRollout } from "../rollouts/start-rollout.ts";
import { adoptTarget, applyTemplate, getTemplateSize } from "../rollouts/target-revision.ts";
import { assertGatewayPorts } from "../networks/assert-gateway-ports.ts";
import { isSameSize } from "./resize-steps.ts";
import { assertGranted } from "../tenancy/grants.ts";
import { computeSetAmounts, assertWithinQuota, subtractAmounts } from "../tenancy/quota.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import { assertSupported } from "../runtime/supported-features.ts";
import { formatCount } from "../../lib/text/format-count.ts";

/**
 * Changes a service at the given generation. A changed template becomes the target revision, which
 * waits for a rollout unless the patch adopts it. With "new-sets", sets created from now on have
 * it. With "rollout", a rollout by `tokenId` starts. Amounts in the template change no revision,
 * only the size of new sets.
 *
 * Throws not-found, generation-mismatch, state-conflict, unsupported, invalid-request,
 * quota-exceeded, grant-missing.
 */
export async function patchService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  generation: number,
  patch: PatchService,
  tokenId: string | null = null,
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
    const active = await findActiveRollout(tx, service.id);
    if (active && (patch.template || patch.adopt)) assertMaySupersede(active, patch);
    if (patch.template) await assertNetworksExist(tx, tenantId, patch.template);
    if (patch.template) await applyTemplate(tx, service, changed, patch.template);
    if (patch.template || patch.gatewayPorts) await assertGatewayPorts(tx, changed);
    if (patch.adopt === "new-sets") await adoptTarget(tx, changed);
    if (patch.template || patch.autoscale) await assertSingleReplica(tx, changed);
    const decision = await decideChangedService(tx, service, changed);
    changed.desiredReplicas = decision.desired;
    const hasVolume = changed.size.volumeBytes > 0 || Boolean(patch.template?.volume);
    if (hasVolume && changed.onHostLost === "replace") {
      if (patch.onHostLost === "replace") throw replaceWithVolume();
      changed.onHostLost = "wait";
    }
    await reservePatchQuota(tx, service, changed);
    const startsRollout =
      patch.adopt === "rollout" &&
      (active !== undefined || changed.targetRevision !== changed.revision);
    const strategy = toStrategy(changed);
    const rolloutEffects = startsRollout
      ? await prepareRollout(ctx, tx, service, changed, { strategy, isRestart: false })
      : [];
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
    const effects = [...describe(service, changed, patch), ...rolloutEffects];
    if (startsRollout) {
      const toRevision = changed.targetRevision;
      const request = { change: { toRevision }, strategy, message: null, tokenId, toRevision };
      const number = await startRollout(tx, changed, { ...request, superseded: active });
      effects.unshift(`Rollout ${number} updates the sets to revision ${toRevision}.`);
    }
    if (effects.length === 0) effects.push("The change affects none of the sets.");
    return { service: await readChangedService(tx, tenantId, name), effects };
  });
}

/** Stores the size of new sets in `changed`. Throws quota-exceeded. */
async function reservePatchQuota(
  tx: Queryable,
  service: ServiceRow,
  changed: ServiceRow,
): Promise<void> {
  const before = await getSizedTemplate(tx, service);
  const after = await getSizedTemplate(tx, changed);
  changed.rootfsBytes = after.rootfsBytes;
  // The quota counts what is stored.
  changed.size = getTemplateSize(after);
  await assertWithinQuota(tx, service.tenantId, {
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
}

function toStrategy({ rollout, desiredReplicas, disruption }: ServiceRow): RolloutStrategy {
  const { minReadySeconds } = disruption;
  return resolveStrategy(rollout, { replicas: desiredReplicas, minReadySeconds });
}

/**
 * An active rollout owns the target revision. Only another rollout may take its place. Throws
 * state-conflict.
 */
function assertMaySupersede(
  { number, state }: ActiveRollout,
  { adopt, ifActive }: PatchService,
): void {
  if (adopt === "rollout" && ifActive === "supersede") return;
  throw new AppError("state-conflict", {
    detail: `Rollout ${number} of the service is ${state}. Wait for its end, or supersede it with another rollout.`,
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
    rollout: patch.rollout === undefined ? service.rollout : patch.rollout,
    gatewayPorts: patch.gatewayPorts ?? service.gatewayPorts,
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
  } else if (after.targetRevision !== after.revision && patch.adopt !== "rollout") {
    effects.push(
      `Revision ${after.targetRevision} is the target. Existing and new sets have revision ${after.revision} until a rollout, or until a patch with "adopt".`,
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
  if (!isDeepStrictEqual(after.gatewayPorts, before.gatewayPorts))
    effects.push(
      "Gateways publish the service at the new ports within seconds. The list of endpoints shows where clients connect.",
    );
  const added = after.desiredReplicas - before.desiredReplicas;
  if (added > 0) effects.push(`Berth will add ${formatCount(added, "set")}.`);
  if (added < 0) effects.push(`Berth will remove ${formatCount(-added, "set")}.`);
  return effects;
}
