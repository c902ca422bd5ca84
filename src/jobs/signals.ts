import type { Redis } from "ioredis";
import type { Log } from "../lib/log.ts";
import type { SignalChannel, Signals } from "../services/context.ts";

/** Names of signals in one message; a publish of more is several messages. */
const NAMES_PER_MESSAGE_MAX = 1_000;

export interface SignalsOptions {
  publisher: Redis;
  /** In subscriber mode from here on: nothing else may use it. Undefined: this process only publishes. */
  subscriber: Redis | undefined;
  prefix: string;
  log: Log;
}

export interface RunningSignals extends Signals {
  /** Wakes everybody who waits. The connections are the caller's to close. */
  close(): Promise<void>;
}

/**
 * Signals over one Redis channel, whose messages are lists of names. A channel for each name would mean thousands of subscriptions that
 * come and go with every long poll; with one, a wait is an entry in a map, and each process gets every
 * message, of which it throws most away. A commit that wakes a thousand hosts is one message.
 *
 * Waiters of this process are woken directly as well, so that one process works without Redis.
 */
export async function startSignals(options: SignalsOptions): Promise<RunningSignals> {
  const waiters = new Map<string, Set<() => void>>();
  const channel = `${options.prefix}:signals`;
  const wake = (names: readonly string[]) => {
    for (const name of names) for (const resolve of [...(waiters.get(name) ?? [])]) resolve();
  };
  const onMessage = (from: string, message: string) => {
    if (from === channel) wake(message.split(" "));
  };
  options.subscriber?.on("message", onMessage);
  // ioredis subscribes again by itself after every reconnection.
  options.subscriber
    ?.subscribe(channel)
    .catch((error: unknown) =>
      options.log.warn({ err: error }, "not subscribed to signals; waits fall back to polling"),
    );

  return {
    async publish(channels) {
      if (channels.length === 0) return;
      wake(channels);
      const messages: string[] = [];
      for (let start = 0; start < channels.length; start += NAMES_PER_MESSAGE_MAX) {
        messages.push(channels.slice(start, start + NAMES_PER_MESSAGE_MAX).join(" "));
      }
      await Promise.all(
        messages.map((message) => options.publisher.publish(channel, message)),
      ).catch(() => undefined); // dropped: see Signals
    },
    waitFor: (name, timeoutMs, signal) => waitForName(waiters, name, timeoutMs, signal),
    async close() {
      options.subscriber?.off("message", onMessage);
      wake([...waiters.keys()]);
    },
  };
}

function waitForName(
  waiters: Map<string, Set<() => void>>,
  name: SignalChannel,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const own = waiters.get(name) ?? new Set();
    waiters.set(name, own);
    const timer = setTimeout(finish, timeoutMs);
    function finish() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
      own.delete(finish);
      if (own.size === 0 && waiters.get(name) === own) waiters.delete(name);
      resolve();
    }
    own.add(finish);
    signal?.addEventListener("abort", finish, { once: true });
  });
}
