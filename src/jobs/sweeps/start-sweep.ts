import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../../lib/log.ts";

export interface SweepOptions {
  name: string;
  /** The interval between runs, over all job workers. Each polls for its turn at it, ± 20 %. */
  everyMs: number;
  /** Claims the turn among all job workers. False: another job worker has it. */
  claimTurn: () => Promise<boolean>;
  run: () => Promise<unknown>;
  log: Log;
  /** Called after each run, for metrics. */
  onRun?: ((run: SweepRun) => void) | undefined;
}

export interface SweepRun {
  sweep: string;
  outcome: "done" | "failed";
  durationMs: number;
}

const FAILURES_PER_LOG_LINE = 30;

/**
 * Runs a sweep whenever this process gets its turn. The returned function stops it, and waits for a
 * run in progress. The timer belongs to the process, so a sweep does not depend on Redis (I1). A
 * failed run does not stop the next one. The log shows the start of a lasting fault, every 30th
 * failure, and the recovery.
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
        await runInTurn(options);
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

async function runInTurn({ name, claimTurn, run, onRun }: SweepOptions): Promise<void> {
  const startedAtMs = performance.now();
  const note = (outcome: SweepRun["outcome"]) =>
    onRun?.({ sweep: name, outcome, durationMs: performance.now() - startedAtMs });
  try {
    if (!(await claimTurn())) return;
    await run();
    note("done");
  } catch (error) {
    note("failed");
    throw error;
  }
}
