import type { Reason } from "../../contracts/common/primitives.ts";
import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import {
  cancelUpdateRecords,
  endUpdatesOfRollout,
} from "../../db/queries/rollouts/rollout-sets.ts";
import { type ActiveRollout, changeRolloutState } from "../../db/queries/rollouts/rollouts.ts";
import {
  getSizedTemplate,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { deleteHostImages } from "../../db/queries/rollouts/host-images.ts";
import type { UnitOfWork } from "../runtime/context.ts";
import { adoptTarget } from "./target-revision.ts";
import { startNextRollout } from "./start-rollout.ts";

/** How a rollout ends. `tokenId` is null if Berth ends it. */
export interface RolloutEnd {
  state: "completed" | "rolled-back" | "failed" | "canceled";
  reason: Reason | null;
  tokenId: string | null;
}

/**
 * Ends the active rollout of a locked service, and starts the one that waits for it. After success
 * its target is the current revision. Otherwise the service has no target, and its sets keep the
 * revisions that they have.
 */
export async function endRollout(
  tx: UnitOfWork,
  service: ServiceRow,
  rollout: ActiveRollout,
  { state, reason, tokenId }: RolloutEnd,
): Promise<void> {
  const restartsStep = false;
  await changeRolloutState(tx, rollout.id, {
    state,
    reason,
    tokenId,
    hasEnded: true,
    restartsStep,
  });
  await cancelUpdateRecords(tx, rollout.id);
  await deleteHostImages(tx, rollout.id);
  for (const setId of await endUpdatesOfRollout(tx, service.id)) tx.signal(`set:${setId}`);
  const changed: ServiceRow = { ...service, targetRevision: service.revision };
  if (rollout.kind === "update") {
    if (state === "completed") {
      changed.targetRevision = rollout.toRevision;
      await adoptTarget(tx, changed);
    }
    const { rootfsBytes } = await getSizedTemplate(tx, changed);
    changed.rootfsBytes = rootfsBytes;
    changed.generation = await updateService(tx, changed);
  }
  const subjects = { tenantId: service.tenantId, serviceId: service.id };
  tx.emit({ ...toEvent(changed, rollout, { state, reason, tokenId }), ...subjects });
  tx.signal(`service:${service.id}`);
  if (!service.deleting) await startNextRollout(tx, changed);
}

function toEvent(
  service: ServiceRow,
  { number }: ActiveRollout,
  { state, reason }: RolloutEnd,
): EmittedEvent {
  const about = { service: service.name, number };
  const by = { ...about, by: null, reason: reason?.text ?? null };
  const { revision } = service;
  switch (state) {
    case "completed":
      return {
        kind: "rollout-completed",
        data: { ...about, revision, sets: service.desiredReplicas },
      };
    case "rolled-back":
      return { kind: "rollout-rolled-back", data: { ...about, revision } };
    case "failed":
      return { kind: "rollout-failed", data: by };
    case "canceled":
      return { kind: "rollout-canceled", data: by };
  }
}
