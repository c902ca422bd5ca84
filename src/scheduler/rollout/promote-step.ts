import type { RolloutSelection } from "../../contracts/api/rollouts.ts";
import { selectsAll } from "./count-wanted-sets.ts";
import type { RolloutFacts } from "./rollout-input.ts";

/** The state of a step whose selected sets are all updated and available. */
export type StepVerdict =
  | { kind: "wait"; isManual: boolean; gateSinceMs: number | undefined; nextMs: number }
  | { kind: "next-step"; step: number; selection: RolloutSelection }
  | { kind: "complete" };

/**
 * Decides whether the next step begins. The caller has found that the step is reached: its sets are
 * updated and available, and no update is in progress. Pure.
 *
 * The last step completes the rollout if its selection is the whole service. After a promotion to
 * fewer sets it waits for a user. Without a recent value of a metric, or with one outside of its
 * limits, the step waits: only sets that fail pause a rollout (I12). A value has to be newer than
 * the first good one, because an older one shows nothing about the sets of this step.
 */
export function promoteStep(rollout: RolloutFacts, nowMs: number): StepVerdict {
  const { step, strategy, selection } = rollout;
  const isLast = step >= strategy.steps.length - 1;
  const promote = strategy.steps[step]?.promote ?? "auto";
  const isPartition = isLast && !selectsAll(selection);
  if (promote === "manual" || isPartition)
    return {
      kind: "wait",
      isManual: true,
      gateSinceMs: rollout.gateSinceMs ?? nowMs,
      nextMs: Infinity,
    };
  const gate = checkGate(promote, rollout, nowMs);
  if (!gate.isOpen) return { kind: "wait", isManual: false, ...gate };
  if (isLast) return { kind: "complete" };
  return { kind: "next-step", step: step + 1, selection: selectionOf(rollout, step + 1) };
}

/** The last step is the whole service, whatever the strategy says. */
function selectionOf({ strategy: { steps } }: RolloutFacts, step: number): RolloutSelection {
  const select = steps[step]?.select;
  return select === undefined || step === steps.length - 1 ? { percent: 100 } : select;
}

function checkGate(
  promote: Exclude<RolloutFacts["strategy"]["steps"][number]["promote"], "manual">,
  { gateSinceMs, stepBeganAtMs, measurement }: RolloutFacts,
  nowMs: number,
): { isOpen: boolean; gateSinceMs: number | undefined; nextMs: number } {
  const sinceMs = gateSinceMs ?? nowMs;
  if (promote === "auto") return { isOpen: true, gateSinceMs: sinceMs, nextMs: nowMs };
  if ("afterSeconds" in promote) {
    const nextMs = sinceMs + promote.afterSeconds * 1_000;
    return { isOpen: nowMs >= nextMs, gateSinceMs: sinceMs, nextMs };
  }
  const { min = -Infinity, max = Infinity, forSeconds, staleSeconds } = promote;
  const isGood =
    measurement !== undefined &&
    measurement.atMs >= stepBeganAtMs &&
    nowMs - measurement.atMs <= staleSeconds * 1_000 &&
    measurement.value >= min &&
    measurement.value <= max;
  if (!isGood) return { isOpen: false, gateSinceMs: undefined, nextMs: Infinity };
  // Between two rounds, a value may have left its limits and returned.
  const goodSinceMs = Math.max(sinceMs, measurement.withinSinceMs ?? nowMs);
  const nextMs = goodSinceMs + forSeconds * 1_000;
  // The first good value begins the gate, and a later one has to confirm it.
  const isConfirmed = gateSinceMs !== undefined && measurement.atMs > gateSinceMs;
  return {
    isOpen: isConfirmed && nowMs >= nextMs,
    gateSinceMs: goodSinceMs,
    nextMs: nowMs < nextMs ? nextMs : measurement.atMs + staleSeconds * 1_000 + 1,
  };
}
