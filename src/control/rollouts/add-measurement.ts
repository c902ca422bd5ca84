import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { AddMeasurement } from "../../contracts/api/rollout-requests.ts";
import {
  findRolloutByNumber,
  upsertMeasurement,
  wakeRollout,
} from "../../db/queries/rollouts/rollouts.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Stores the newest value of a metric for an active rollout. A step whose promotion names the
 * metric begins the next one after its values have been within their bounds for long enough. Throws
 * not-found, state-conflict.
 */
export async function addMeasurement(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  { number, metric, value }: AddMeasurement & { number: number },
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("rollout");
    const rollout = await findRolloutByNumber(tx, service.id, number);
    if (!rollout) throw notFound("rollout");
    const { state, strategy, step } = rollout;
    if (state !== "running" && state !== "paused") {
      throw new AppError("state-conflict", {
        detail: `Rollout ${number} is ${state}, so no step of it waits for a metric.`,
      });
    }
    const promote = strategy.steps[step]?.promote;
    const bounds =
      typeof promote === "object" && "metric" in promote && promote.metric === metric
        ? promote
        : undefined;
    const { min = -Infinity, max = Infinity } = bounds ?? {};
    const isWithin = bounds !== undefined && value >= min && value <= max;
    await upsertMeasurement(tx, rollout.id, { metric, value, isWithin });
    await wakeRollout(tx, service.id);
    const jobId = `rollout:${rollout.id}:at${Date.now()}`;
    tx.enqueue({ name: "move-sets", jobId, payload: { cause: "rollout-measured" } });
  });
}
