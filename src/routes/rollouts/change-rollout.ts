import { changeRolloutBody } from "../../contracts/api/rollout-requests.ts";
import { changeRollout, type RolloutAction } from "../../control/rollouts/change-rollout.ts";
import { defineRolloutAction } from "./define-rollout-action.ts";

/** Defines the operation of an action that needs nothing but a reason. */
function defineChange(
  action: RolloutAction,
  texts: { operationId: string; summary: string; description: string },
) {
  return defineRolloutAction({
    path: action,
    ...texts,
    body: changeRolloutBody,
    run: (ctx, tenantId, name, { body, ...request }) =>
      changeRollout(ctx, tenantId, name, action, { ...request, reason: body.reason ?? null }),
  });
}

export const pauseRolloutOperation = defineChange("pause", {
  operationId: "pauseRollout",
  summary: "Pause a rollout",
  description: "No further set begins to change. Sets that are changing finish.",
});

export const resumeRolloutOperation = defineChange("resume", {
  operationId: "resumeRollout",
  summary: "Resume a paused rollout",
  description: "It goes on with its current step. The deadlines of its sets begin again.",
});

export const rollbackRolloutOperation = defineChange("rollback", {
  operationId: "rollbackRollout",
  summary: "Return all sets of a rollout to the previous revision",
  description:
    "The sets return within the disruption budget. A rollout that has not started is canceled.",
});
