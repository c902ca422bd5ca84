import type { RolloutSelection } from "../../contracts/api/rollouts.ts";
import { assert } from "../../lib/assert.ts";
import type { RolloutTotals } from "./rollout-input.ts";

/**
 * How many replicas should be at the target revision in a step: at most the size of the service. A
 * percentage rounds up, so that every step above 0 percent changes a set. Sets that a user stopped
 * do not count.
 */
export function countWantedSets(
  selection: RolloutSelection,
  { desired, selected }: Pick<RolloutTotals, "desired" | "selected">,
): number {
  assert(desired >= 0 && selected >= 0, "counts are not negative");
  if ("count" in selection) return Math.min(selection.count, desired);
  if ("percent" in selection) return Math.ceil((selection.percent * desired) / 100);
  return selected;
}

/** Whether the selection is the whole service, whatever its size. */
export function selectsAll(selection: RolloutSelection): boolean {
  return "percent" in selection && selection.percent === 100;
}

/** Whether the selection is a number of any sets, and not a property of them. */
export function selectsByNumber(selection: RolloutSelection): boolean {
  return "count" in selection || "percent" in selection;
}
