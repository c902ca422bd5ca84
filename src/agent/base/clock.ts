import type { ClockReading } from "./clock-reading.ts";
import { type Deadline, onAbort } from "../../lib/async/abort.ts";

/** The agent's only source of time. Tests replace it with a virtual clock. */
export interface Clock {
  /** Monotonic milliseconds since the start of the process. */
  nowMs(): number;
  /** Wall clock. Never compare it with an earlier value: it may step in either direction. */
  wallMs(): number;
  /** Calls back once after `delayMs`. The returned function cancels the call. */
  after(delayMs: number, callback: () => void): () => void;
}

export function readClock(clock: Clock): ClockReading {
  return { nowMs: clock.nowMs(), wallMs: clock.wallMs() };
}

/** Resolves after `delayMs`, or as soon as `signal` is aborted. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      cancel();
      unlisten();
      resolve();
    };
    const cancel = clock.after(delayMs, end);
    const unlisten = onAbort(signal, end);
    return undefined;
  });
}

/** A deadline for `runAbortable` by this clock. */
export function createDeadline<T>(clock: Clock, timeoutMs: number, onLate: () => T): Deadline<T> {
  return { timeoutMs, onLate, after: (delayMs, callback) => clock.after(delayMs, callback) };
}
