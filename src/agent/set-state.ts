import { type SetState, setStates } from "../contracts/api/sets.ts";

/** What the agent may report of a set. */
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
 * Which state may follow which within one generation: forward only, by any number of steps; `failed` from any that is
 * not the end of a stop, `lost` from any. Both are final: only a newer generation leads out of them.
 */
export const nextStates: ReadonlyMap<ReportedState, ReadonlySet<ReportedState>> = new Map(
  ([...setStates, "absent"] as const).map((state) => {
    const position = onward.indexOf(state);
    const isFinal = position < 0 || state === "absent";
    const aside: ReportedState[] = state === "stopped" ? ["lost"] : ["failed", "lost"];
    return [state, new Set(isFinal ? [] : [...onward.slice(position + 1), ...aside])];
  }),
);

/** `wanted` where that may follow `from`, which is undefined at the start of a generation; else `from`. */
export function advanceState(
  from: ReportedState | undefined,
  wanted: ReportedState,
): ReportedState {
  return from === undefined || nextStates.get(from)?.has(wanted) === true ? wanted : from;
}
