import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { RolloutChange } from "../../contracts/api/rollout-answers.ts";
import type { PromoteRollout } from "../../contracts/api/rollout-requests.ts";
import type { RolloutSelection, RolloutStrategy } from "../../contracts/api/rollouts.ts";
import {
  findRolloutByNumber,
  findTokenName,
  promoteRollout as storePromotion,
  type RolloutRow,
} from "../../db/queries/rollouts/rollouts.ts";
import { lockServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import type { RolloutRequest } from "./change-rollout.ts";
import { readChangedRollout } from "./get-rollout.ts";

const all: RolloutSelection = { percent: 100 };

/**
 * Begins the next step of a running rollout without its condition. With a selection, the current
 * step gets those sets instead, and updated sets beyond them return. Throws not-found,
 * state-conflict.
 */
export async function promoteRollout(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  { select, isFull, number, reason, caller }: Omit<PromoteRollout, "reason"> & RolloutRequest,
): Promise<RolloutChange> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    const rollout = await findRolloutByNumber(tx, service.id, number);
    if (!rollout) throw notFound("rollout");
    if (rollout.state !== "running") {
      throw new AppError("state-conflict", {
        detail: `Rollout ${number} is ${rollout.state}, and only a running one can be promoted.`,
      });
    }
    const promotion = choosePromotion(rollout, { select, isFull });
    await storePromotion(tx, rollout.id, { ...promotion, tokenId: caller.tokenId });
    const by = (await findTokenName(tx, caller.tokenId)) ?? caller.tokenId;
    const data = { service: name, number, by, reason };
    tx.emit({ kind: "rollout-promoted", data, tenantId, serviceId: service.id });
    const jobId = `rollout:${rollout.id}:at${Date.now()}`;
    tx.enqueue({ name: "move-sets", jobId, payload: { cause: "rollout-promoted" } });
    tx.signal(`service:${service.id}`);
    const effects = [
      promotion.returnsExcess
        ? "Updated sets beyond the selection return to the previous revision."
        : `Step ${promotion.step + 1} of ${promotion.strategy.steps.length} begins.`,
    ];
    return { rollout: await readChangedRollout(tx, tenantId, name, number), effects };
  });
}

interface Promotion {
  step: number;
  selection: RolloutSelection;
  returnsExcess: boolean;
  strategy: RolloutStrategy;
}

function choosePromotion(
  { step, strategy }: RolloutRow,
  { select, isFull }: Pick<PromoteRollout, "select" | "isFull">,
): Promotion {
  const last = strategy.steps.length - 1;
  if (select) {
    // Without this, the condition of the step would begin the next one soon.
    const steps = strategy.steps.map((each, index) =>
      index === step ? { select, promote: "manual" as const } : each,
    );
    return { step, selection: select, returnsExcess: true, strategy: { ...strategy, steps } };
  }
  const next = isFull ? last : Math.min(step + 1, last);
  // The last step completes the rollout, even if its own condition is a user.
  const steps = strategy.steps.map((each, index) =>
    index === last && next === last ? { select: all, promote: "auto" as const } : each,
  );
  const selection = next === last ? all : (steps[next]?.select ?? all);
  return { step: next, selection, returnsExcess: false, strategy: { ...strategy, steps } };
}
