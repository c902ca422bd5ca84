import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import { createReason } from "../../contracts/api/reason-texts.ts";
import type { RolloutChange } from "../../contracts/api/rollout-answers.ts";
import type { RolloutState } from "../../contracts/api/rollouts.ts";
import {
  changeRolloutState,
  deleteFailedImages,
  findRolloutByNumber,
  findTokenName,
  type RolloutRow,
} from "../../db/queries/rollouts/rollouts.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { readChangedRollout } from "./get-rollout.ts";

export type RolloutAction = "pause" | "resume" | "rollback";

interface ActionRule {
  to: RolloutState;
  from: readonly RolloutState[];
  event: "rollout-paused" | "rollout-resumed" | "rollout-rolling-back";
  effect: string;
}

const rules: Record<RolloutAction, ActionRule> = {
  pause: {
    to: "paused",
    from: ["running", "rolling-back"],
    event: "rollout-paused",
    effect: "No further set begins to change. Sets that are changing finish.",
  },
  resume: {
    to: "running",
    from: ["paused"],
    event: "rollout-resumed",
    effect: "The rollout goes on with its current step.",
  },
  rollback: {
    to: "rolling-back",
    from: ["running", "paused"],
    event: "rollout-rolling-back",
    effect: "All updated sets return to the previous revision, within the disruption budget.",
  },
};

/** A user's change of a rollout. */
export interface RolloutRequest {
  number: number;
  reason: string | null;
  caller: Caller;
}

/**
 * Pauses, resumes or rolls back a rollout, and records who did and why. A repeated request changes
 * nothing. A canceled queued rollout is one that is rolled back before its start. Throws not-found,
 * state-conflict.
 */
export async function changeRollout(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  action: RolloutAction,
  { number, reason, caller }: RolloutRequest,
): Promise<RolloutChange> {
  const { to, from, event, effect } = rules[action];
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    const rollout = await findRolloutByNumber(tx, service.id, number);
    if (!rollout) throw notFound("rollout");
    const by = (await findTokenName(tx, caller.tokenId)) ?? caller.tokenId;
    const why = createReason("rollout-changed", { by, reason }, "rollout");
    const subjects = { tenantId, serviceId: service.id };
    const data = { service: name, number, by, reason };
    const change = { reason: why, tokenId: caller.tokenId };
    if (rollout.state === "queued" && action === "rollback") {
      const end = { state: "canceled" as const, hasEnded: true, restartsStep: false };
      await changeRolloutState(tx, rollout.id, { ...change, ...end });
      tx.emit({ kind: "rollout-canceled", data, ...subjects });
    } else if (rollout.state !== to) {
      if (!from.includes(rollout.state)) throw conflict(rollout, action);
      const restartsStep = action !== "pause";
      await changeRolloutState(tx, rollout.id, {
        ...change,
        state: to,
        hasEnded: false,
        restartsStep,
      });
      if (action === "resume") await deleteFailedImages(tx, rollout.id);
      tx.emit({ kind: event, data, ...subjects });
      const jobId = `rollout:${rollout.id}:at${Date.now()}`;
      tx.enqueue({ name: "move-sets", jobId, payload: { cause: event } });
    }
    tx.signal(`service:${service.id}`);
    const effects = rollout.state === "queued" ? ["The rollout is canceled."] : [effect];
    return { rollout: await readChangedRollout(tx, tenantId, name, number), effects };
  });
}

function conflict({ number, state }: RolloutRow, action: RolloutAction): AppError {
  return new AppError("state-conflict", {
    detail: `Rollout ${number} is ${state}, so there is nothing to ${action === "rollback" ? "roll back" : action}.`,
  });
}
