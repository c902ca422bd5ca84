import { type SetState, observedSetStates } from "../../contracts/api/sets.ts";

/** A state that the agent may report. */
export type ReportedState = SetState | "absent";

const onward: readonly ReportedState[] = [
  "pending",
  "placed",
  "preparing",
  "starting",
  "running",
  "stopping",
  "stopped",
  "absent",
];

/**
 * The state transitions within one generation: forward only, by any number of steps. `failed`
 * follows any state before `stopped`, and `lost` follows any. Both are final until a newer
 * generation.
 */
export const nextStates: ReadonlyMap<ReportedState, ReadonlySet<ReportedState>> = new Map(
  ([...observedSetStates, "absent"] as const).map((state) => {
    const position = onward.indexOf(state);
    const isFinal = position < 0 || state === "absent";
    const aside: ReportedState[] = state === "stopped" ? ["lost"] : ["failed", "lost"];
    return [state, new Set(isFinal ? [] : [...onward.slice(position + 1), ...aside])];
  }),
);

/**
 * Returns `wanted` if it may follow `from`, else `from`. `from` is undefined at the start of a
 * generation.
 */
export function advanceState(
  from: ReportedState | undefined,
  wanted: ReportedState,
): ReportedState {
  return from === undefined || nextStates.get(from)?.has(wanted) === true ? wanted : from;
}
