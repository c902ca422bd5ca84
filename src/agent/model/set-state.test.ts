import { describe, expect, it } from "vitest";
import { observedSetStates } from "../../contracts/api/sets.ts";
import { advanceState, nextStates, type ReportedState } from "./set-state.ts";

const states: ReportedState[] = [...observedSetStates, "absent"];
const forward = "pending placed preparing starting running stopping stopped absent".split(" ");

/** Restates the rule without the table. */
function mayFollow(from: ReportedState, to: ReportedState): boolean {
  if (from === "failed" || from === "lost" || from === "absent") return false;
  if (to === "lost") return true;
  if (to === "failed") return from !== "stopped";
  return forward.indexOf(to) > forward.indexOf(from);
}

describe("states of a set within a generation", () => {
  it.each(states.flatMap((from) => states.map((to) => [from, to] as const)))(
    "follow the rule from %s to %s",
    (from, to) => {
      expect(nextStates.get(from)?.has(to)).toBe(mayFollow(from, to));
      expect(advanceState(from, to)).toBe(mayFollow(from, to) ? to : from);
    },
  );

  it.each(states)("start with any state, such as %s", (state) => {
    expect(advanceState(undefined, state)).toBe(state);
  });
});
