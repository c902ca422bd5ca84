import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  type HostLostPolicy,
  type PatchService,
  REPLACE_WITH_VOLUME_TEXT,
  type ServiceChange,
} from "../../contracts/api/services.ts";
import { type SetTemplate, templateWithSize } from "../../contracts/api/set-template.ts";
import {
  findTemplate,
  getSizedTemplate,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { updateRevisionVolumes } from "../../db/queries/services/resizes.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { updatePendingPriority } from "../../db/queries/sets/write-sets.ts";
import { deleteUnusedRevisions, insertRevision } from "../../db/queries/services/revisions.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideChangedService } from "../replicas/decide-service-replicas.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { ensureStaticDefaultNetwork } from "../networks/default-network.ts";
import { assertSingleReplica } from "./assert-single-replica.ts";
import { assertNetworksExist } from "../networks/assert-networks-exist.ts";
import { getTemplateSize } from "./create-service.ts";
import { readChangedService } from "./get-service.ts";
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

/** The newest revisions stay, even if no set has them. */
const RECENT_REVISIONS_MAX = 20;
const REVISIONS_DELETED_MAX = 100;

/**
 * Makes the template the target revision, and its CPU and memory the size of new sets. New sets
 * have the volume size of the current revision. A target has its own until it is adopted.
 */
async function applyTemplate(
  tx: Queryable,
  service: ServiceRow,
  changed: ServiceRow,
  template: SetTemplate,
): Promise<void> {
  const size = getTemplateSize(template);
  const current = await getRevision(tx, service.id, service.revision);
  if (isSameApartFromSize(current, template)) {
    changed.targetRevision = service.revision;
    changed.size = size;
    return;
  }
  const volumeBytes = current.volume ? service.size.volumeBytes || current.volume.sizeBytes : 0;
  changed.size = { ...size, volumeBytes };
  // A later difference means that the size of the target is out of date, see adoptTarget.
  await updateRevisionVolumes(tx, service.id, [service.revision], volumeBytes);
  const target = await getRevision(tx, service.id, service.targetRevision);
  if (isSameApartFromSize(target, template)) {
    changed.targetRevision = service.targetRevision;
    await updateRevisionVolumes(tx, service.id, [service.targetRevision], size.volumeBytes);
  } else {
    changed.targetRevision = await insertRecentRevision(tx, service.id, template);
  }
}

/** Inserts a revision and deletes older ones that no set has. Returns its number. */
async function insertRecentRevision(
  tx: Queryable,
  serviceId: string,
  template: SetTemplate,
): Promise<number> {
  const number = await insertRevision(tx, serviceId, template);
  await deleteUnusedRevisions(tx, serviceId, {
    numberMax: number - RECENT_REVISIONS_MAX,
    limit: REVISIONS_DELETED_MAX,
  });
  return number;
}

async function getRevision(tx: Queryable, serviceId: string, number: number): Promise<SetTemplate> {
  const template = await findTemplate(tx, serviceId, number);
  assert(template, "the current and the target revision of a service exist");
  return template;
}

/**
 * Makes the target revision the current one, with the volume size of its template.
 *
 * This release stores the volume size of a service in the current revision as well, and a resize
 * changes both and the target. If they differ, a process of the previous release has changed only
 * the service. Then its size applies, as it did in that release.
 */
async function adoptTarget(tx: Queryable, changed: ServiceRow): Promise<void> {
  if (changed.revision === changed.targetRevision) return;
  const current = await getRevision(tx, changed.id, changed.revision);
  const target = await getRevision(tx, changed.id, changed.targetRevision);
  changed.revision = changed.targetRevision;
  const targetBytes = target.volume?.sizeBytes ?? 0;
  const { volumeBytes } = changed.size;
  const isTargetOutdated = volumeBytes > 0 && volumeBytes !== (current.volume?.sizeBytes ?? 0);
  changed.size = {
    ...changed.size,
    volumeBytes: target.volume && isTargetOutdated ? volumeBytes : targetBytes,
  };
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

/** One schema normalizes templates, but jsonb does not keep the order of members. */
function isSameApartFromSize(a: SetTemplate, b: SetTemplate): boolean {
  const size = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1 };
  return canonical(templateWithSize(a, size)) === canonical(templateWithSize(b, size));
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === "object" && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([x], [y]) => (x < y ? -1 : 1)))
      : member,
  );
}
