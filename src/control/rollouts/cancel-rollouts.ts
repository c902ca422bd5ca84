import { createReason } from "../../contracts/api/reason-texts.ts";
import {
  changeRolloutState,
  findActiveRollout,
  findQueuedRollout,
} from "../../db/queries/rollouts/rollouts.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import type { UnitOfWork } from "../runtime/context.ts";
import { endRollout } from "./end-rollout.ts";

/** Ends the rollouts of a locked service that is being deleted. */
export async function cancelRollouts(tx: UnitOfWork, service: ServiceRow): Promise<void> {
  const reason = createReason("rollout-service-deleted", {}, "rollout");
  const queued = await findQueuedRollout(tx, service.id);
  if (queued) {
    const end = { state: "canceled" as const, tokenId: null, hasEnded: true, restartsStep: false };
    await changeRolloutState(tx, queued.id, { reason, ...end });
  }
  const active = await findActiveRollout(tx, service.id);
  if (active) await endRollout(tx, service, active, { state: "canceled", reason, tokenId: null });
}
