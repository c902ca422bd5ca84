import { promoteRolloutBody } from "../../contracts/api/rollout-requests.ts";
import { promoteRollout } from "../../control/rollouts/promote-rollout.ts";
import { defineRolloutAction } from "./define-rollout-action.ts";

export const promoteRolloutOperation = defineRolloutAction({
  path: "promote",
  operationId: "promoteRollout",
  summary: "Begin the next step of a rollout",
  description:
    "The condition of the current step is ignored. With `select`, the current step gets these sets instead, and updated sets beyond them return to the previous revision.",
  body: promoteRolloutBody,
  run: (ctx, tenantId, name, { body, ...request }) =>
    promoteRollout(ctx, tenantId, name, { ...body, ...request, reason: body.reason ?? null }),
});
