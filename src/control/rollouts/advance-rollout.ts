import type { EventSubjects } from "../../contracts/api/event-texts.ts";
import { createReason } from "../../contracts/api/reason-texts.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import {
  type ActiveRollout,
  deleteRolloutWakes,
  findActiveRollout,
  updateRolloutRound,
} from "../../db/queries/rollouts/rollouts.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { planRollout } from "../../scheduler/rollout/plan-rollout.ts";
import type { RolloutAction, RolloutPlan } from "../../scheduler/rollout/rollout-plan.ts";
import type { UnitOfWork } from "../runtime/context.ts";
import { applyActions } from "./apply-actions.ts";
import { toFailureReason } from "./describe-failure.ts";
import { endRollout } from "./end-rollout.ts";
import { readRolloutInput, type RoundFacts } from "./read-rollout-input.ts";

/**
 * Runs one round of the active rollout of a locked service: reads the facts, plans, and stores the
 * plan. The mover begins the updates in its next step. Safe to run at any time, twice, or late: the
 * same facts have the same plan. Returns how many sets changed.
 */
export async function advanceRollout(tx: UnitOfWork, service: ServiceRow): Promise<number> {
  await deleteRolloutWakes(tx, service.id);
  const rollout = await findActiveRollout(tx, service.id);
  if (!rollout) return 0;
  if (service.deleting) return 0; // the deletion has canceled it
  const facts = await readRolloutInput(tx, service, rollout);
  const plan = planRollout(facts.input);
  const changed = await applyActions(tx, service, rollout, facts, plan);
  await storeRound(tx, service, rollout, plan);
  await emitUpdated(tx, service, rollout, facts, plan.actions);
  if (changed > 0) tx.signal(`service:${service.id}`);
  return changed;
}

/** Stores the state of the rollout after a round, with the events of what has changed. */
async function storeRound(
  tx: UnitOfWork,
  service: ServiceRow,
  rollout: ActiveRollout,
  { actions, next, dueInMs }: RolloutPlan,
): Promise<void> {
  const { state } = next;
  const isNewStep = next.step !== rollout.step;
  const isNewState = state !== rollout.state;
  const reason = next.failure ? toReason(next.failure) : undefined;
  const hasEnded = state === "completed" || state === "rolled-back" || state === "failed";
  await updateRolloutRound(tx, rollout.id, {
    ...next,
    isNewStep: isNewStep || next.stepBeganAtMs !== rollout.stepBeganAtMs,
    reason,
    hasEnded: false,
    state: hasEnded ? rollout.state : state,
    isProgress: actions.length > 0 || isNewStep || isNewState,
    dueInMs,
  });
  const about = { service: service.name, number: rollout.number };
  const subjects = toSubjects(service);
  if (isNewStep) {
    const steps = rollout.strategy.steps.length;
    tx.emit({ kind: "rollout-step", data: { ...about, step: next.step + 1, steps }, ...subjects });
  }
  if (!isNewState) return;
  tx.signal(`service:${service.id}`);
  const by = { ...about, by: null, reason: reason?.text ?? null };
  if (state === "paused") tx.emit({ kind: "rollout-paused", data: by, ...subjects });
  if (state === "rolling-back") tx.emit({ kind: "rollout-rolling-back", data: by, ...subjects });
  if (hasEnded)
    await endRollout(tx, service, rollout, { state, reason: reason ?? null, tokenId: null });
}

function toReason({ failed, first }: NonNullable<RolloutPlan["next"]["failure"]>): Reason {
  const cause = toFailureReason(first).text;
  return createReason("rollout-set-failed", { failed, setId: first.setId, cause }, "rollout");
}

/** Reports each set whose update is done. */
async function emitUpdated(
  tx: UnitOfWork,
  service: ServiceRow,
  rollout: ActiveRollout,
  { input, diffs }: RoundFacts,
  actions: readonly RolloutAction[],
): Promise<void> {
  const records = new Map(input.open.map((record) => [record.setId, record]));
  for (const action of actions) {
    const record = records.get(action.setId);
    if (action.kind !== "end" || action.outcome !== "done" || !record) continue;
    const [revision, other] =
      record.direction === "to"
        ? [rollout.toRevision, rollout.fromRevision]
        : [rollout.fromRevision, rollout.toRevision];
    const { containers } = await diffs.diff(other, revision);
    const subjects = { ...toSubjects(service), setId: action.setId, hostId: record.hostId ?? null };
    tx.emit({ kind: "set-updated", data: { revision, containers }, ...subjects });
  }
}

function toSubjects({ tenantId, id }: ServiceRow): EventSubjects {
  return { tenantId, serviceId: id };
}
