import { setTimeout as delay } from "node:timers/promises";
import { watchWork } from "../../lib/async/watch-work.ts";
import type { Log } from "../../lib/log.ts";

export interface Sweep {
  name: string;
  /** The pause between two runs, ± 20%. */
  everyMs: number;
  /** Processes item by item. Once `signal` aborts, it returns before the next item. */
  run: (signal: AbortSignal) => Promise<unknown>;
}

export interface RepeatOptions {
  log: Log;
  /** Called after each run, for metrics. */
  onRun?: ((run: SweepRun) => void) | undefined;
  /** Called when a run has not ended long after its signal aborted. The process should end. */
  onHung?: (() => void) | undefined;
  runMaxMs?: number;
}

export interface SweepRun {
  sweep: string;
  outcome: "done" | "failed";
  durationMs: number;
}

const FAILURES_PER_LOG_LINE = 30;
/** A run that lasts longer stops before its next item. The next run continues the work. */
const RUN_MAX_MS = 10 * 60_000;
/** A run hangs if it ignores its signal for as long as a run may last. */
const HUNG_AFTER_RUNS = 2;

/**
 * Runs a sweep repeatedly until `signal` aborts, and resolves once its last run has ended. A failed
 * run does not stop the next one. The log shows the first failure in a row, every 30th failure, and
 * the recovery.
 */
export async function repeatSweep(
  sweep: Sweep,
  options: RepeatOptions,
  signal: AbortSignal,
): Promise<void> {
  const { name, everyMs } = sweep;
  const { log } = options;
  // Sweeps do not start together, and a new leader does not run all of them immediately.
  let pauseMs = everyMs * Math.random();
  let failures = 0;
  for (;;) {
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      await runOnce(sweep, options, signal);
      if (failures > 0) log.info({ sweep: name, failures }, "sweep recovered");
      failures = 0;
    } catch (error) {
      if (failures++ % FAILURES_PER_LOG_LINE === 0)
        log.warn({ err: error, sweep: name, failures }, "sweep failed");
    }
    pauseMs = everyMs * (0.8 + Math.random() * 0.4);
  }
}

async function runOnce(sweep: Sweep, options: RepeatOptions, signal: AbortSignal): Promise<void> {
  const { name, run } = sweep;
  const { log, onRun, onHung, runMaxMs = RUN_MAX_MS } = options;
  const startedAtMs = performance.now();
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  signal.addEventListener("abort", abort, { once: true });
  const longest = setTimeout(() => {
    log.error({ sweep: name, runMaxMs }, "a sweep exceeded the time limit of a run; stopping it");
    abort();
  }, runMaxMs);
  let outcome: SweepRun["outcome"] = "failed";
  try {
    await watchWork(run(controller.signal), runMaxMs * HUNG_AFTER_RUNS, () => {
      log.error({ sweep: name }, "sweep hangs; the process ends");
      onHung?.();
    });
    outcome = "done";
  } finally {
    clearTimeout(longest);
    signal.removeEventListener("abort", abort);
    onRun?.({ sweep: name, outcome, durationMs: performance.now() - startedAtMs });
  }
}
