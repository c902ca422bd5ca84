import type { SweepTurn } from "../../control/runtime/sweep-turns.ts";
import type { Log } from "../../lib/log.ts";

export interface HeldTurn {
  /** Aborts when the run must stop before its next item. */
  signal: AbortSignal;
  /** Stops the extension of the turn. */
  release(): void;
}

export interface HoldOptions {
  sweep: string;
  leaseMs: number;
  /** The turn is extended for at most this time. */
  runMaxMs: number;
  /** Aborts when the process stops. */
  stopping: AbortSignal;
  log: Log;
}

const EXTENSIONS_PER_LEASE = 3;

/**
 * Extends a turn while its run goes on, so that two processes never run one sweep at the same
 * time. The signal aborts in these cases:
 *
 * - The process stops.
 * - The run has lasted `runMaxMs`.
 * - Postgres did not answer during the whole lease, or another process has the turn.
 */
export function holdTurn(turn: SweepTurn, options: HoldOptions): HeldTurn {
  const { sweep, leaseMs, runMaxMs, stopping, log } = options;
  const controller = new AbortController();
  const startedAtMs = performance.now();
  let validUntilMs = startedAtMs + leaseMs;
  let isExtending = false;
  const abort = (): void => {
    clearInterval(timer);
    controller.abort();
  };
  const extend = async (): Promise<void> => {
    const nowMs = performance.now();
    const isExtended = await turn.extend();
    if (isExtended) validUntilMs = nowMs + leaseMs;
    else validUntilMs = 0;
  };
  const tick = (): void => {
    if (performance.now() - startedAtMs >= runMaxMs) {
      log.error({ sweep, runMaxMs }, "sweep exceeded its longest run; stopping it");
      abort();
    } else if (performance.now() >= validUntilMs) {
      log.warn({ sweep }, "sweep lost its turn; stopping it");
      abort();
    } else if (!isExtending) {
      isExtending = true;
      void extend()
        .catch((error: unknown) => log.warn({ err: error, sweep }, "turn of sweep not extended"))
        .finally(() => (isExtending = false));
    }
  };
  const timer = setInterval(tick, leaseMs / EXTENSIONS_PER_LEASE);
  stopping.addEventListener("abort", abort, { once: true });
  if (stopping.aborted) abort();
  return {
    signal: controller.signal,
    release: () => {
      clearInterval(timer);
      stopping.removeEventListener("abort", abort);
    },
  };
}
