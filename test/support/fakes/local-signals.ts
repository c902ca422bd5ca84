import type { SignalChannel, Signals } from "../../../src/control/runtime/context.ts";

/** Signals within one process. With `lossy` it loses every signal, like an unreachable Redis. */
export function createLocalSignals({ lossy = false }: { lossy?: boolean } = {}): Signals & {
  published: SignalChannel[];
  /** Whether someone waits for the channel. */
  isAwaited(channel: SignalChannel): boolean;
} {
  const waiting = new Map<SignalChannel, Set<() => void>>();
  const published: SignalChannel[] = [];
  return {
    published,
    isAwaited: (channel) => (waiting.get(channel)?.size ?? 0) > 0,
    publish: async (channels) => {
      published.push(...channels);
      if (lossy) return;
      for (const channel of channels) {
        for (const wake of waiting.get(channel) ?? []) wake();
      }
    },
    waitFor: (channel, timeoutMs, signal) =>
      new Promise((resolve) => {
        const wakers = waiting.get(channel) ?? new Set();
        waiting.set(channel, wakers);
        const end = (isSignaled: boolean) => {
          clearTimeout(timer);
          wakers.delete(wake);
          signal?.removeEventListener("abort", giveUp);
          resolve(isSignaled);
        };
        const wake = () => end(true);
        const giveUp = () => end(false);
        const timer = setTimeout(giveUp, timeoutMs);
        wakers.add(wake);
        signal?.addEventListener("abort", giveUp);
        if (signal?.aborted === true) giveUp();
      }),
  };
}
