import type { Reason } from "../../contracts/common/primitives.ts";
import { computeBackoffMs, repeatBackoff } from "../base/backoff.ts";
import type { ClockReading } from "../base/clock-reading.ts";
import type { StepFailure } from "../model/step-failure.ts";

/**
 * After this many refusals (about 15 s) the control plane rolls the size back. A set rarely frees
 * memory later, and meanwhile its host reserves capacity for both sizes.
 */
const REFUSALS_MAX = 5;

/**
 * The history of resizes of a set, which delay no other step. It is reset when the set has its
 * size.
 */
export interface ResizeHistory {
  triesInRow: number;
  /**
   * Resizes that the kernel refused or that lacked space, without those that the daemon did not
   * answer.
   */
  refusals: number;
  retryAtMs: number;
  failure: Reason | undefined;
}

export function newResizeHistory(): ResizeHistory {
  return { triesInRow: 0, refusals: 0, retryAtMs: 0, failure: undefined };
}

/**
 * Records a resize. A set that cannot be resized keeps running, and the agent retries with
 * exponential backoff. A resize without effect backs off, too: systemd, for example, applies limits
 * some time later.
 */
export function noteResized(
  history: { resize: ResizeHistory },
  failure: StepFailure | undefined,
  { nowMs, wallMs, random }: ClockReading & { random: number },
): void {
  const { triesInRow, refusals } = history.resize;
  const isRefusal = failure !== undefined && !failure.isUnavailable;
  history.resize = {
    triesInRow: triesInRow + 1,
    refusals: refusals + (isRefusal ? 1 : 0),
    retryAtMs: nowMs + computeBackoffMs(repeatBackoff, triesInRow + 1, random),
    failure: failure && { ...failure.reason, at: new Date(wallMs).toISOString() },
  };
}

export function isSizeRefused({ resize }: { resize: ResizeHistory }): boolean {
  return resize.refusals >= REFUSALS_MAX;
}
