import type { RolloutPhase } from "../../contracts/api/rollouts.ts";
import { assert } from "../../lib/assert.ts";
import { chooseSets, type ChosenSets } from "./choose-sets.ts";
import { selectsByNumber } from "./count-wanted-sets.ts";
import { type Judgement, judgeSets } from "./judge-sets.ts";
import { promoteStep } from "./promote-step.ts";
import {
  CANDIDATES_MAX,
  OPEN_RECORDS_MAX,
  type OpenRecord,
  type RolloutInput,
} from "./rollout-input.ts";
import type { NextRollout, RolloutAction, RolloutPlan } from "./rollout-plan.ts";

/** A time that has passed is due with the next round, and not in a loop without a pause. */
const DUE_MS_MIN = 100;
/** A lost report costs one minute. */
const DUE_MS_MAX = 60_000;

/**
 * Decides one round of an active rollout: which sets begin, return, fail or are done, and whether
 * the rollout advances. Pure and total: the same input has the same plan. After the caller has
 * stored a plan, a second round with the same reports changes nothing further.
 *
 * The rules, in order:
 *
 * 1. A failed set pauses the rollout, or begins the rollback; no set begins in the same round. So a
 *    revision that fails affects the sets of one step at most. A set that fails while it returns
 *    ends the rollout as failed, and nothing further is touched.
 * 2. Sets that are changing to a revision that they should no longer get are redirected. Most of
 *    them do not serve, so that needs no budget.
 * 3. Sets begin within the disruption budget (I14), the parallel limit, and the selection of the
 *    step. Those that do not serve are first and need no budget: a broken revision never blocks
 *    the one that repairs it.
 * 4. A step is reached when its sets are updated and available, and no update is in progress. Then
 *    its promotion decides. The counts are those of the input, so they include each disruption that
 *    an earlier round has begun.
 *
 * A rollback ends once no set is at the target. It does not wait for sets that it did not touch.
 * O(n log n) for n candidates and records.
 */
export function planRollout(input: RolloutInput): RolloutPlan {
  assert(input.candidates.length <= CANDIDATES_MAX, "the caller limits the candidates");
  assert(input.unhealthy.length <= CANDIDATES_MAX, "the caller limits the unhealthy sets");
  assert(input.open.length <= OPEN_RECORDS_MAX, "the caller limits the open records");
  const setIds = [...input.candidates, ...input.open].map(({ setId }) => setId);
  assert(new Set(setIds).size === setIds.length, "a set is a candidate or has a record");
  const judgement = judgeSets(input);
  const ends = endRecords(judgement);
  const { rollout } = input;
  if (rollout.state === "paused") return finishRound(input, "paused", ends);
  if (judgement.failures.length > 0) return stopForFailures(input, judgement, ends);
  const ended = new Set(ends.map(({ setId }) => setId));
  const chosen = chooseSets(
    input,
    input.open.filter(({ setId }) => !ended.has(setId)),
  );
  // The set of such a record is a candidate only in the next round.
  const isUndone = ends.some(({ outcome }) => outcome !== "done");
  const plan: RolloutPlan = {
    actions: [...ends, ...chosen.actions],
    prefetch: chosen.prefetch,
    next: { ...stay(input, choosePhase(input, chosen)), gateSinceMs: undefined },
    waitsFor: chosen.waitsFor,
    // A canceled set may begin in the next round, and there may be more candidates.
    dueInMs:
      chosen.actions.length > 0 || isUndone
        ? DUE_MS_MIN
        : dueIn(input, Math.min(judgement.nextMs, chosen.nextMs)),
  };
  if (chosen.failures.length > 0)
    return stopForFailures(input, { ...judgement, failures: chosen.failures }, ends);
  if (chosen.isBusy || isUndone) return plan;
  return rollout.state === "rolling-back"
    ? finishReturn(input, plan)
    : advanceStep(input, chosen, plan, judgement);
}

/** Ends each record that has a verdict. */
function endRecords({ records }: Judgement): (RolloutAction & { kind: "end" })[] {
  return records.flatMap(({ record: { setId }, verdict }) =>
    verdict.outcome === "waiting" ? [] : [{ kind: "end", setId, ...verdict }],
  );
}

function stopForFailures(
  input: RolloutInput,
  { failures }: Judgement,
  ends: readonly RolloutAction[],
): RolloutPlan {
  const [first] = failures;
  assert(first, "only a failure stops a rollout");
  const { state, strategy } = input.rollout;
  const failure = { failed: failures.length, first };
  if (state === "rolling-back") return finishRound(input, "failed", ends, failure);
  if (strategy.onFailure === "pause") return finishRound(input, "paused", ends, failure);
  const plan = finishRound(input, "rolling-back", ends, failure);
  return {
    ...plan,
    next: { ...plan.next, phase: "returning", stepBeganAtMs: input.nowMs },
    dueInMs: DUE_MS_MIN,
  };
}

/** A round that begins nothing. The time of the gate begins again with the next one. */
function finishRound(
  input: RolloutInput,
  state: NextRollout["state"],
  actions: readonly RolloutAction[],
  failure?: NextRollout["failure"],
): RolloutPlan {
  const isChanging = input.open.length > actions.length;
  const phase =
    input.rollout.state === "rolling-back" ? "returning" : isChanging ? "updating" : "soaking";
  return {
    actions,
    prefetch: [],
    next: { ...stay(input, phase), state, gateSinceMs: undefined, failure },
    waitsFor: undefined,
    dueInMs: DUE_MS_MAX,
  };
}

function stay({ rollout }: RolloutInput, phase: RolloutPhase): NextRollout {
  const { state, step, selection, returnsExcess, stepBeganAtMs, gateSinceMs } = rollout;
  return {
    state,
    phase,
    step,
    selection,
    returnsExcess,
    stepBeganAtMs,
    gateSinceMs,
    failure: undefined,
  };
}

function choosePhase({ rollout, open }: RolloutInput, chosen: ChosenSets): RolloutPhase {
  const isReturn = ({ direction }: Pick<OpenRecord, "direction">) => direction === "from";
  if (rollout.state === "rolling-back" || open.some(isReturn) || chosen.returns) return "returning";
  if (open.length > 0 || chosen.actions.length > 0) return "updating";
  if (chosen.prefetch.length > 0 || chosen.waitsFor === "images") return "preparing";
  return chosen.isBusy ? "updating" : "soaking";
}

/** No set is left to return. */
function finishReturn(input: RolloutInput, plan: RolloutPlan): RolloutPlan {
  const { rollout, totals } = input;
  const isReturned = rollout.kind === "restart" || totals.atTarget + totals.atOther === 0;
  if (!isReturned) return plan;
  return { ...plan, next: { ...plan.next, state: "rolled-back" }, waitsFor: undefined };
}

/** No set is left to change in this step. */
function advanceStep(
  input: RolloutInput,
  { wanted }: ChosenSets,
  plan: RolloutPlan,
  { nextMs }: Judgement,
): RolloutPlan {
  const { rollout, totals, nowMs } = input;
  const available = selectsByNumber(rollout.selection)
    ? totals.availableAtTarget
    : totals.selectedAvailableAtTarget;
  // A set on a host that is not ready proves nothing. It counts only as not available.
  const isUnhealthy = input.unhealthy.some((set) => set.hostReadySinceMs !== undefined);
  if (available < wanted || isUnhealthy) return { ...plan, waitsFor: "readiness" };
  const verdict = promoteStep(rollout, nowMs);
  switch (verdict.kind) {
    case "wait":
      return {
        ...plan,
        next: {
          ...plan.next,
          phase: verdict.isManual ? "awaiting-promotion" : "soaking",
          gateSinceMs: verdict.gateSinceMs,
        },
        waitsFor: "promotion",
        dueInMs: dueIn(input, Math.min(nextMs, verdict.nextMs)),
      };
    case "next-step":
      return {
        ...plan,
        next: {
          ...plan.next,
          step: verdict.step,
          selection: verdict.selection,
          returnsExcess: false,
          stepBeganAtMs: nowMs,
        },
        dueInMs: DUE_MS_MIN,
      };
    case "complete":
      return { ...plan, next: { ...plan.next, state: "completed" } };
  }
}

function dueIn({ nowMs }: RolloutInput, atMs: number): number {
  return Math.min(DUE_MS_MAX, Math.max(DUE_MS_MIN, atMs - nowMs));
}
