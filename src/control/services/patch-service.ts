import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  type HostLostPolicy,
  type PatchService,
  REPLACE_WITH_VOLUME_TEXT,
  type ServiceChange,
} from "../../contracts/api/services.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import {
  findTemplate,
  insertRevision,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { updatePendingPriority } from "../../db/queries/sets/write-sets.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { decideChangedService } from "../replicas/decide-replicas.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { getService } from "./get-service.ts";
import { assertGranted } from "../tenancy/grants.ts";
import { amountsOfSets, assertWithinQuota, subtractAmounts } from "../tenancy/quota.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";
import { assertSupported } from "../runtime/supported-features.ts";

/**
 * Changes a service at the given generation. A new template becomes a new revision: sets made from now on use it,
 * those that run stay as they are. Throws not-found, generation-mismatch, unsupported, invalid-request, quota-exceeded, grant-missing.
 */
export async function patchService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  generation: number,
  patch: PatchService,
): Promise<ServiceChange> {
  assertSupported(patch);
  const effects = await unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    assertGeneration(service, generation);
    assertNotDeleting(service);
    const template = await findTemplate(tx, service.id, service.revision);
    assert(template, "a service's newest revision exists");
    const changed = applyPatch(service, patch);
    if (patch.placement || patch.priority !== undefined) await assertGranted(tx, tenantId, changed);
    const decision = await decideChangedService(tx, service, changed);
    changed.desiredReplicas = decision.desired;
    const newTemplate =
      patch.template && !isSameTemplate(patch.template, template) ? patch.template : undefined;
    if (newTemplate) {
      changed.revision = service.revision + 1;
      await insertRevision(tx, service.id, changed.revision, newTemplate);
    }
    const after = newTemplate ?? template;
    if (after.volume !== null && changed.onHostLost === "replace") {
      if (patch.onHostLost === "replace") throw replaceWithVolume();
      changed.onHostLost = "wait";
    }
    await assertWithinQuota(tx, tenantId, {
      intended: subtractAmounts(
        amountsOfSets(after, changed.desiredReplicas),
        amountsOfSets(template, service.desiredReplicas),
      ),
      // Sets that exist keep their template, so only additional ones grow.
      existing: amountsOfSets(
        after,
        Math.max(0, changed.desiredReplicas - service.desiredReplicas),
      ),
    });
    changed.generation = await updateService(tx, changed);
    tx.emit({
      kind: "service-changed",
      text: `${name} was changed: ${Object.keys(patch).join(", ")}`,
      tenantId,
      serviceId: service.id,
      generation: changed.generation,
      data: { changed: Object.keys(patch), revision: changed.revision },
    });
    await reconcileServiceSets(tx, changed);
    // Last, as hosts are locked before sets. Sets that are placed have no more use for a priority.
    if (changed.priority !== service.priority)
      await updatePendingPriority(tx, service.id, changed.priority);
    return describe(service, changed, patch);
  });
  return { service: await getService(ctx, tenantId, name), effects };
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
      `Revision ${after.revision} is used by sets made from now on; sets that exist keep theirs.`,
    );
  }
  if (patch.placement)
    effects.push(
      "The placement is used for sets placed from now on; placed sets stay where they are.",
    );
  if (after.onHostLost !== before.onHostLost) effects.push(hostLostEffects[after.onHostLost]);
  if (after.priority !== before.priority)
    effects.push("Sets that wait for a place, and those made from now on, have the new priority.");
  const added = after.desiredReplicas - before.desiredReplicas;
  if (added > 0) effects.push(`${added} sets are added.`);
  if (added < 0) effects.push(`${-added} sets are removed.`);
  if (effects.length === 0) effects.push("No set is touched.");
  return effects;
}

/** Templates come normalised out of one schema, but jsonb does not keep the order of members. */
function isSameTemplate(a: SetTemplate, b: SetTemplate): boolean {
  return canonical(a) === canonical(b);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === "object" && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([x], [y]) => (x < y ? -1 : 1)))
      : member,
  );
}
