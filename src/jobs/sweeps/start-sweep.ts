import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../../lib/log.ts";

export interface SweepOptions {
  name: string;
  /** From the end of one run to the beginning of the next, give or take a fifth, so that processes spread. */
  everyMs: number;
  run: () => Promise<unknown>;
  log: Log;
}

const FAILURES_PER_LOG_LINE = 30;

/**
 * Runs a sweep again and again by a timer of this process, until it is stopped; stopping waits for a run under way. A run
 * that fails is followed by the next one all the same; a fault that stays is logged at its beginning, now and then, and
 * at its end.
 */
export function startSweep({ name, everyMs, run, log }: SweepOptions): () => Promise<void> {
  const stopping = new AbortController();
  const { signal } = stopping;
  let failures = 0;
  const loop = async (): Promise<void> => {
    for (;;) {
      await delay(everyMs * (0.8 + Math.random() * 0.4), undefined, { signal }).catch(
        () => undefined,
      );
      if (signal.aborted) return;
      try {
        await run();
        if (failures > 0) log.info({ sweep: name, failures }, "sweep works again");
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
