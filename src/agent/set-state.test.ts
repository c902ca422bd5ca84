import { describe, expect, it } from "vitest";
import { setStates } from "../contracts/api/sets.ts";
import { advanceState, nextStates, type ReportedState } from "./set-state.ts";

const states: ReportedState[] = [...setStates, "absent"];
const forward = "pending placed preparing starting running stopping stopped absent".split(" ");

/** The rule in other words than the table's. */
function mayFollow(from: ReportedState, to: ReportedState): boolean {
  if (from === "failed" || from === "lost" || from === "absent") return false;
  if (to === "lost") return true;
  if (to === "failed") return from !== "stopped";
  return forward.indexOf(to) > forward.indexOf(from);
}

describe("states of a set within a generation", () => {
  it.each(states.flatMap((from) => states.map((to) => [from, to] as const)))(
    "%s -> %s only as the rule says",
    (from, to) => {
      expect(nextStates.get(from)?.has(to)).toBe(mayFollow(from, to));
      expect(advanceState(from, to)).toBe(mayFollow(from, to) ? to : from);
    },
  );

  it.each(states)("begin with any, such as %s", (state) => {
    expect(advanceState(undefined, state)).toBe(state);
  });
});
