import { AppError } from "../../contracts/common/app-error.ts";
import { createReason } from "../../contracts/api/reason-texts.ts";
import type { RequestedChange, RolloutStrategy } from "../../contracts/api/rollouts.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import {
  cancelUpdateRecords,
  cancelWaitingUpdates,
} from "../../db/queries/rollouts/rollout-sets.ts";
import {
  type ActiveRollout,
  changeRolloutState,
  deleteOldRollouts,
  findQueuedRollout,
  insertRollout,
  startQueuedRollout,
} from "../../db/queries/rollouts/rollouts.ts";
import {
  findTemplate,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { deleteHostImages } from "../../db/queries/rollouts/host-images.ts";
import { newId } from "../../lib/ids.ts";
import type { UnitOfWork } from "../runtime/context.ts";
import { assertGatewayPorts } from "../networks/assert-gateway-ports.ts";
import { applyTemplate } from "./target-revision.ts";
import { changeTemplate } from "./change-template.ts";
import { reserveRollout } from "./prepare-rollout.ts";
import { assertSingleReplica } from "../replicas/assert-single-replica.ts";

/** The newest rollouts of a service stay. */
const RECENT_ROLLOUTS_MAX = 100;
const ROLLOUTS_DELETED_MAX = 10;

/** A rollout that starts now. */
export interface StartedRollout {
  change: RequestedChange;
  strategy: RolloutStrategy;
  message: string | null;
  /** The token of the request. Null if Berth starts it. */
  tokenId: string | null;
  toRevision: number;
  /** The rollout whose place it takes. */
  superseded: ActiveRollout | undefined;
}

/**
 * Starts a rollout from the current revision of a locked service to another one, which the caller
 * has stored as the target of the service. Returns its number.
 */
export async function startRollout(
  tx: UnitOfWork,
  service: ServiceRow,
  { superseded, toRevision, ...started }: StartedRollout,
): Promise<number> {
  if (superseded) await endSuperseded(tx, superseded);
  const { number, requestedBy } = await insertRollout(tx, {
    ...started,
    id: newId("rlt"),
    tenantId: service.tenantId,
    serviceId: service.id,
    kind: "restart" in started.change ? "restart" : "update",
    revisions: { from: service.revision, to: toRevision },
  });
  await deleteOldRollouts(tx, service.id, {
    numberMax: number - RECENT_ROLLOUTS_MAX,
    limit: ROLLOUTS_DELETED_MAX,
  });
  const subjects = { tenantId: service.tenantId, serviceId: service.id };
  const about = { service: service.name };
  if (superseded) {
    const reason = createReason("rollout-superseded", { number }, "rollout");
    await changeRolloutState(tx, superseded.id, {
      state: "superseded",
      reason,
      tokenId: started.tokenId,
      hasEnded: true,
      restartsStep: false,
    });
    tx.emit({
      kind: "rollout-superseded",
      data: { ...about, number: superseded.number, successor: number },
      ...subjects,
    });
  }
  announceStart(tx, service, { number, revision: toRevision, by: requestedBy });
  return number;
}

/** Ends what the superseded rollout has not begun. Its successor turns or drops the rest. */
async function endSuperseded(tx: UnitOfWork, { id, serviceId }: ActiveRollout): Promise<void> {
  for (const setId of await cancelWaitingUpdates(tx, serviceId)) tx.signal(`set:${setId}`);
  await cancelUpdateRecords(tx, id);
  await deleteHostImages(tx, id);
  // The index allows one active rollout, so this one ends before its successor begins.
  const state = "superseded";
  const end = { reason: null, tokenId: null, hasEnded: true, restartsStep: false };
  await changeRolloutState(tx, id, { state, ...end });
}

function announceStart(
  tx: UnitOfWork,
  service: ServiceRow,
  rollout: { number: number; revision: number; by: string | null },
): void {
  const { number } = rollout;
  tx.emit({
    kind: "rollout-started",
    data: { service: service.name, ...rollout, sets: service.desiredReplicas },
    tenantId: service.tenantId,
    serviceId: service.id,
  });
  const jobId = `rollout:${service.id}:n${number}`;
  tx.enqueue({ name: "move-sets", jobId, payload: { cause: "rollout-started" } });
  tx.signal(`service:${service.id}`);
}

/** Starts the rollout that waits for the end of the one before, if there is one. */
export async function startNextRollout(tx: UnitOfWork, service: ServiceRow): Promise<void> {
  const queued = await findQueuedRollout(tx, service.id);
  if (!queued) return;
  const { change, strategy, number, requestedBy: by } = queued;
  const changed: ServiceRow = { ...service };
  const obstacle = await trySetTarget(tx, service, changed, { change, strategy });
  if (obstacle !== undefined) {
    const reason = createReason("rollout-not-startable", { explanation: obstacle }, "rollout");
    const end = { tokenId: null, hasEnded: true, restartsStep: false };
    await changeRolloutState(tx, queued.id, { state: "canceled", reason, ...end });
    const data = { service: service.name, number, by: null, reason: reason.text };
    const subjects = { tenantId: service.tenantId, serviceId: service.id };
    tx.emit({ kind: "rollout-canceled", data, ...subjects });
    return;
  }
  const from = service.revision;
  const to = "restart" in change ? from : changed.targetRevision;
  if (!("restart" in change)) changed.generation = await updateService(tx, changed);
  await startQueuedRollout(tx, queued.id, { from, to, strategy });
  announceStart(tx, changed, { number, revision: to, by });
}

/** Returns why the change no longer applies to the service. Undefined if it does. */
async function trySetTarget(
  tx: UnitOfWork,
  service: ServiceRow,
  changed: ServiceRow,
  { change, strategy }: { change: RequestedChange; strategy: RolloutStrategy },
): Promise<string | undefined> {
  const refusals = ["invalid-request", "quota-exceeded"];
  try {
    const isFound = await setTarget(tx, service, changed, change, service.revision);
    if (!isFound) return "Its revision was deleted meanwhile.";
    await assertSingleReplica(tx, changed);
    await reserveRollout(tx, service, changed, { strategy, isRestart: "restart" in change });
    return undefined;
  } catch (error) {
    if (error instanceof AppError && refusals.includes(error.code)) return error.publicDetail;
    throw error;
  }
}

/**
 * Sets the target revision of `changed` to that of a requested change. A partial change applies to
 * the template of `baseRevision`. Returns false if the named revision does not exist. Throws
 * invalid-request.
 */
export async function setTarget(
  tx: UnitOfWork,
  service: ServiceRow,
  changed: ServiceRow,
  change: RequestedChange,
  baseRevision: number,
): Promise<boolean> {
  if ("restart" in change) return true;
  if ("toRevision" in change) {
    const template = await findTemplate(tx, service.id, change.toRevision);
    if (!template) return false;
    await applyTarget(tx, service, changed, withSizeOf(service, template));
    return true;
  }
  if ("template" in change) {
    await applyTarget(tx, service, changed, change.template);
    return true;
  }
  const base = await findTemplate(tx, service.id, baseRevision);
  if (!base) return false;
  const template = changeTemplate(withSizeOf(service, base), change.containers);
  await applyTarget(tx, service, changed, template);
  return true;
}

async function applyTarget(
  tx: UnitOfWork,
  service: ServiceRow,
  changed: ServiceRow,
  template: SetTemplate,
): Promise<void> {
  await applyTemplate(tx, service, changed, template);
  await assertGatewayPorts(tx, changed);
}

/** The size of new sets is that of the service, and not that of a revision. */
function withSizeOf({ size }: ServiceRow, template: SetTemplate): SetTemplate {
  const { volume } = template;
  return {
    ...template,
    cpuMillis: size.cpuMillis,
    memoryBytes: size.memoryBytes,
    volume: volume && { ...volume, sizeBytes: size.volumeBytes || volume.sizeBytes },
  };
}
