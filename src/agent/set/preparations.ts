import type { Reason } from "../../contracts/common/primitives.ts";
import { computeBackoffMs, repeatBackoff } from "../base/backoff.ts";

/** A set that needs no preparation for this long is stable. */
const STABLE_AFTER_MS = 60_000;
/** So many successful preparations in a row have no backoff. */
const IMMEDIATE_IN_ROW_MAX = 5;

/**
 * Successful preparations of a set in a row. A prepared set normally needs no other one. If it does
 * soon, something deletes its containers or replaces them, so a backoff bounds the loop.
 */
export interface PreparationHistory {
  inRow: number;
  lastAtMs: number;
}

interface Prepared {
  preparations: PreparationHistory;
}

export function newPreparationHistory(): PreparationHistory {
  return { inRow: 0, lastAtMs: 0 };
}

export function notePrepared(history: Prepared, nowMs: number): void {
  const { inRow } = history.preparations;
  const isStable = nowMs > nextPreparationAtMs(history) + STABLE_AFTER_MS;
  history.preparations = { inRow: isStable ? 1 : inRow + 1, lastAtMs: nowMs };
}

/** The earliest time of the next preparation. */
export function nextPreparationAtMs({ preparations: { inRow, lastAtMs } }: Prepared): number {
  if (inRow < IMMEDIATE_IN_ROW_MAX) return lastAtMs;
  return lastAtMs + computeBackoffMs(repeatBackoff, inRow - IMMEDIATE_IN_ROW_MAX + 1);
}

/** The reason for a set that waits for its next preparation; undefined without a backoff. */
export function repeatedPreparationReason({
  preparations: { inRow },
}: Prepared): Reason | undefined {
  if (inRow < IMMEDIATE_IN_ROW_MAX) return undefined;
  const text = `The agent prepared the set ${inRow} times in a row, because its containers did not last. Find out which program on the host deletes or restarts them.`;
  return { code: "containers-unstable", text, phase: "prepare" };
}
