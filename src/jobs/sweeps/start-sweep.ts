import { setTimeout as delay } from "node:timers/promises";
import type { SweepTurn } from "../../control/runtime/sweep-turns.ts";
import { watchWork } from "../../lib/async/watch-work.ts";
import type { Log } from "../../lib/log.ts";
import { holdTurn } from "./hold-turn.ts";

export interface SweepOptions {
  name: string;
  /** The interval between runs, over all job workers. Each polls for its turn at it, ± 20 %. */
  everyMs: number;
  /** Claims the turn among all job workers for `leaseMs`. Undefined: another job worker has it. */
  claimTurn: (leaseMs: number) => Promise<SweepTurn | undefined>;
  /** Does the work item by item, and returns before the next item once `signal` aborts. */
  run: (signal: AbortSignal) => Promise<unknown>;
  log: Log;
  /** Called after each run, for metrics. */
  onRun?: ((run: SweepRun) => void) | undefined;
  /** Called when a run has not ended long after its signal aborted. The process should end. */
  onHung?: (() => void) | undefined;
  leaseMs?: number;
  runMaxMs?: number;
}

export interface SweepRun {
  sweep: string;
  outcome: "done" | "failed";
  durationMs: number;
}

const FAILURES_PER_LOG_LINE = 30;
/** A job worker that dies in its turn delays the sweep by this time. */
const LEASE_MS = 5_000;
/** A run that lasts longer stops before its next item, and continues in another turn. */
const RUN_MAX_MS = 10 * 60_000;
/** A run that ignores its signal for as long as a run may last hangs. */
const HUNG_AFTER_RUNS = 2;

/**
 * Runs a sweep whenever this process gets its turn. The process holds the turn until the run ends,
 * so runs of several job workers do not overlap. The timer belongs to the process, so a sweep does
 * not depend on Redis (I1). A failed run does not stop the next one. The log shows the start of a
 * lasting fault, every 30th failure, and the recovery.
 *
 * The returned function stops the sweep: a run in progress ends after its current item.
 */
export function startSweep(options: SweepOptions): () => Promise<void> {
  const { name, everyMs, log } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  let failures = 0;
  const loop = async (): Promise<void> => {
    for (;;) {
      const pauseMs = everyMs * (0.8 + Math.random() * 0.4);
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await runInTurn(options, signal);
        if (failures > 0) log.info({ sweep: name, failures }, "sweep recovered");
        failures = 0;
      } catch (error) {
        if (failures++ % FAILURES_PER_LOG_LINE === 0)
          log.warn({ err: error, sweep: name, failures }, "sweep failed");
      }
    }
  };
  const done = loop();
  return async () => {
    stopping.abort();
    await done;
  };
}

async function runInTurn(options: SweepOptions, stopping: AbortSignal): Promise<void> {
  const { name, everyMs, run, onRun, onHung, log } = options;
  const { leaseMs = LEASE_MS, runMaxMs = RUN_MAX_MS } = options;
  const startedAtMs = performance.now();
  const runningMs = (): number => performance.now() - startedAtMs;
  const note = (outcome: SweepRun["outcome"]) =>
    onRun?.({ sweep: name, outcome, durationMs: runningMs() });
  try {
    const turn = await options.claimTurn(leaseMs);
    if (!turn) return;
    const held = holdTurn(turn, { sweep: name, leaseMs, runMaxMs, stopping, log });
    try {
      await watchWork(run(held.signal), runMaxMs * HUNG_AFTER_RUNS, () => {
        log.error({ sweep: name }, "sweep hangs; the process ends");
        onHung?.();
      });
    } finally {
      held.release();
      // Without this statement the lease ends the turn.
      await turn.end(Math.max(0, everyMs * TURN_SHARE - runningMs())).catch(() => undefined);
    }
    note("done");
  } catch (error) {
    note("failed");
    throw error;
  }
}

/** A share of the interval. Job workers poll at ± 20 %, so each interval has a poll after it. */
const TURN_SHARE = 0.8;
