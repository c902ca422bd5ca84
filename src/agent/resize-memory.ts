import type { Reason } from "../contracts/common/primitives.ts";
import { backoffMs } from "./backoff.ts";
import type { StepFailure } from "./step-failure.ts";

/**
 * So many refusals, some 15 s, and Berth is told to take the size back: what a set holds now it will hold for longer, and
 * until then its host is booked for both sizes.
 */
const REFUSALS_MAX = 5;

/** Of changing a set's size, which keeps nothing else from happening. Forgotten once it is seen to have its size. */
export interface ResizeMemory {
  triesInRow: number;
  /** Tries that were refused, by the kernel or for want of room; not those for which the daemon did not answer. */
  refusals: number;
  retryAtMs: number;
  failure: Reason | undefined;
}

export function newResizeMemory(): ResizeMemory {
  return { triesInRow: 0, refusals: 0, retryAtMs: 0, failure: undefined };
}

/**
 * A set that cannot be resized goes on as it is; it is tried again with the backoff of everything else. So is what went well
 * and had no effect: systemd, say, applies limits some time later, and must not be asked without end meanwhile.
 */
export function noteResized(
  memory: { resize: ResizeMemory },
  failure: StepFailure | undefined,
  { nowMs, random }: { nowMs: number; random: number },
): void {
  const { triesInRow, refusals } = memory.resize;
  const isRefusal = failure !== undefined && !failure.isUnavailable;
  memory.resize = {
    triesInRow: triesInRow + 1,
    refusals: refusals + (isRefusal ? 1 : 0),
    retryAtMs: nowMs + Math.round(backoffMs(triesInRow + 1) * (1 + random / 4)),
    failure: failure && { ...failure.reason, at: new Date(nowMs).toISOString() },
  };
}

export function isSizeRefused({ resize }: { resize: ResizeMemory }): boolean {
  return resize.refusals >= REFUSALS_MAX;
}
