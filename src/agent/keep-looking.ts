import type { Log } from "../lib/log.ts";
import { type Clock, delay } from "./clock.ts";
import type { SetPort } from "./ports/set-port.ts";
import type { SetRunners } from "./set-runners.ts";

const WATCH_RETRY_MS = 1_000;

export interface LookOptions {
  port: SetPort;
  runners: SetRunners;
  clock: Clock;
  log: Log;
  intervalMs: number;
  /** So many sets were otherwise than all events together had told. */
  onCorrections: (corrections: number) => void;
}

/** Looks at the whole host until aborted: at once, to adopt what is there, and then from time to time. */
export async function keepLooking(options: LookOptions, signal: AbortSignal): Promise<void> {
  const { runners, clock, log, intervalMs, onCorrections } = options;
  let isFirst = true;
  while (!signal.aborted) {
    try {
      const corrections = await runners.lookAtAll();
      onCorrections(corrections);
      if (corrections > 0) log.warn({ corrections }, "changes that no event told");
    } catch (error) {
      log.warn({ err: error }, "host not looked at");
    }
    if (isFirst) runners.startKept();
    isFirst = false;
    await delay(clock, intervalMs, signal);
  }
}

/** Passes the port's events on until aborted. */
export async function keepWatching(
  { port, runners, clock, log }: Omit<LookOptions, "intervalMs" | "onCorrections">,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await port.watch((setId) => runners.onChange(setId), signal);
    } catch (error) {
      log.warn({ err: error }, "not watching");
    }
    await delay(clock, WATCH_RETRY_MS, signal);
  }
}
