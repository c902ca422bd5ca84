import type { Log } from "../../lib/log.ts";
import { type Clock, sleep } from "../base/clock.ts";
import type { SetPort } from "../ports/set-port.ts";
import type { SetRunners } from "./set-runners.ts";
import type { Wakeup } from "../base/wakeup.ts";

const WATCH_RETRY_MS = 1_000;
/** The first resync waits this long for events, so that no change between them is missed. */
const FIRST_EVENTS_MS = 500;

export interface ResyncOptions {
  port: SetPort;
  runners: SetRunners;
  clock: Clock;
  log: Log;
  intervalMs: number;
  /** Notified when events begin to arrive: the changes before that have caused none. */
  eventsOpen: Wakeup;
  /** Called with the number of sets that differ from the last observation and all events since. */
  onCorrections: (corrections: number) => void;
}

/**
 * Observes the whole host immediately, to adopt its sets. Then it does so periodically and after
 * each gap in the events, until aborted.
 */
export async function resyncPeriodically(
  options: ResyncOptions,
  signal: AbortSignal,
): Promise<void> {
  const { runners, eventsOpen, log, intervalMs, onCorrections } = options;
  let isFirst = true;
  await eventsOpen.wait(FIRST_EVENTS_MS, signal);
  while (!signal.aborted) {
    try {
      const corrections = await runners.resync();
      onCorrections(corrections);
      if (corrections > 0) log.warn({ corrections }, "resync corrected drift");
    } catch (error) {
      log.warn({ err: error }, "resync failed");
    }
    if (isFirst) runners.startPersistedSets();
    isFirst = false;
    await eventsOpen.wait(intervalMs, signal);
  }
}

/** Forwards the port's events to the runners until aborted. */
export async function forwardEvents(
  { port, runners, eventsOpen, clock, log }: Omit<ResyncOptions, "intervalMs" | "onCorrections">,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await port.watch(
        (setId) => runners.onChange(setId),
        signal,
        () => eventsOpen.notify(),
      );
    } catch (error) {
      log.warn({ err: error }, "event watch failed");
    }
    await sleep(clock, WATCH_RETRY_MS, signal);
  }
}
