import { setTimeout as delay } from "node:timers/promises";

/**
 * Runs `work` repeatedly, with a pause of `pauseMs` after each run, so that runs do not overlap.
 * `onError` gets the error of a failed run, and the next run follows. `stop` ends the pause, and
 * resolves when the current run has ended.
 */
export function repeatUntilStopped(
  work: () => Promise<unknown>,
  pauseMs: number,
  onError: (error: unknown) => void,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  const loop = async (): Promise<void> => {
    while (!signal.aborted) {
      await work().catch(onError);
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  };
  const done = loop();
  return {
    async stop() {
      stopping.abort();
      await done;
    },
  };
}
