import { notFound } from "../../contracts/common/app-error.ts";
import type { Rollout, WaitRollout } from "../../contracts/api/rollout-answers.ts";
import { findRollout } from "../../db/queries/rollouts/read-rollouts.ts";
import { findServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { pollUntil } from "../runtime/wait-until.ts";

/**
 * Waits until a rollout has ended, or until it stands still as well: it is paused, or waits for a
 * user. Returns it at the end of the wait. Throws not-found.
 */
export async function waitRollout(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  { number, for: goal, timeoutSeconds }: WaitRollout & { number: number },
  signal: AbortSignal,
): Promise<{ reached: boolean; rollout: Rollout }> {
  const service = await findServiceByName(ctx.db, tenantId, name);
  if (!service) throw notFound("rollout");
  const timeoutMs = timeoutSeconds * 1_000;
  return pollUntil(ctx, `service:${service.id}`, timeoutMs, signal, async () => {
    const rollout = await findRollout(ctx.db, tenantId, name, number);
    if (!rollout) throw notFound("rollout");
    const isStill = rollout.state === "paused" || rollout.phase === "awaiting-promotion";
    const reached = rollout.endedAt !== null || (goal === "still" && isStill);
    return { isDone: reached, value: { reached, rollout } };
  });
}
