import type { Reason } from "../../contracts/common/primitives.ts";
import { computeBackoffMs, repeatBackoff } from "../base/backoff.ts";

/** Something that needs no preparation for this long is stable. */
const STABLE_AFTER_MS = 60_000;
/** So many successful preparations in a row have no backoff. */
const IMMEDIATE_IN_ROW_MAX = 5;

/**
 * Successful preparations in a row: of a set, or of one of its containers. Normally, no other
 * preparation follows. If one follows soon, something deletes or replaces the containers, so a
 * backoff bounds the loop.
 */
export interface PreparationHistory {
  inRow: number;
  lastAtMs: number;
}

export function newPreparationHistory(): PreparationHistory {
  return { inRow: 0, lastAtMs: 0 };
}

export function notePrepared(prepared: { preparations: PreparationHistory }, nowMs: number): void {
  const { inRow } = prepared.preparations;
  const isStable = nowMs > nextPreparationAtMs(prepared.preparations) + STABLE_AFTER_MS;
  prepared.preparations = { inRow: isStable ? 1 : inRow + 1, lastAtMs: nowMs };
}

/** The earliest time of the next preparation. */
export function nextPreparationAtMs({ inRow, lastAtMs }: PreparationHistory): number {
  if (inRow < IMMEDIATE_IN_ROW_MAX) return lastAtMs;
  return lastAtMs + computeBackoffMs(repeatBackoff, inRow - IMMEDIATE_IN_ROW_MAX + 1);
}

/**
 * The reason for a wait until the next preparation; undefined without a backoff. `subject` is "the
 * set" or a container's quoted name.
 */
export function repeatedPreparationReason(
  { inRow }: PreparationHistory,
  subject: string,
): Reason | undefined {
  if (inRow < IMMEDIATE_IN_ROW_MAX) return undefined;
  const text = `The agent prepared ${subject} ${inRow} times in a row, because something deletes or restarts it. Find out which program on the host does that, for example \`docker system prune\` in a timer.`;
  return { code: "containers-unstable", text, phase: "prepare" };
}
