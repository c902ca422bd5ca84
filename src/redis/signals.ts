import type { Redis } from "ioredis";
import { newId } from "../lib/ids.ts";
import type { Log } from "../lib/log.ts";
import { within } from "../lib/async/with-timeout.ts";
import type { SignalChannel, Signals } from "../control/runtime/context.ts";

const PUBLISH_TIMEOUT_MS = 250;
/** Names in one message. A commit that wakes 4,000 hosts is four messages of about 35 KB. */
const NAMES_PER_MESSAGE_MAX = 1_000;
/** Names that wait to be published while Redis is slow; more are dropped. */
const NAMES_PENDING_MAX = 50_000;
/** While nothing is heard from Redis no wait is longer than this, and they end spread over half of it. */
const DEAF_WAIT_MS_MAX = 4_000;

export interface RedisSignalsOptions {
  publisher: Redis;
  /** In subscriber mode from then on: nothing else may use it. Called at the first need of it, once. */
  openSubscriber(): Redis;
  prefix: string;
  log: Log;
}

/**
 * Signals over one Redis channel for all of Berth, whose messages are lists of names.
 *
 * A channel for each name would mean a subscription for each of 5,000 long polls, made and unmade with every poll, and a
 * PUBLISH for each host that a placement commit wakes. With one channel a wait is an entry in a map and a commit is a
 * few messages; the price is that every process reads every name: 35 bytes and a map lookup, so that 10,000 signals a second cost it
 * a third of a megabyte and a few milliseconds.
 *
 * Names published while a message is on its way go together in the next one. Waiters of this process are woken at once,
 * without Redis. While the subscription is down waits are cut short, as wakes are missed that would otherwise cost a
 * whole long poll; they end spread out, so that a fleet does not come back in one moment.
 */
export class RedisSignals implements Signals {
  readonly #options: RedisSignalsOptions;
  readonly #channel: string;
  readonly #origin = newId("sig");
  readonly #waiters = new Map<string, Set<() => void>>();
  readonly #pending = new Set<string>();
  #sending: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #subscriber: Redis | undefined;
  #isHearing = false;
  #isClosed = false;

  constructor(options: RedisSignalsOptions) {
    this.#options = options;
    this.#channel = `${options.prefix}:signals`;
  }

  /** Resolves when signals of other processes are heard, or after `timeoutMs` all the same. */
  async listen(timeoutMs: number): Promise<boolean> {
    const subscriber = this.#subscribe();
    if (this.#isHearing) return true;
    let onHearing = (): void => undefined;
    const hearing = new Promise<true>((resolve) => {
      onHearing = () => resolve(true);
      subscriber.once("berth-hearing", onHearing);
    });
    const isHearing = await within(hearing, timeoutMs, false);
    subscriber.off("berth-hearing", onHearing);
    return isHearing;
  }

  async publish(channels: readonly SignalChannel[]): Promise<void> {
    if (channels.length === 0 || this.#isClosed) return;
    for (const name of channels) {
      this.#wake(name);
      if (this.#pending.size < NAMES_PENDING_MAX) this.#pending.add(name);
    }
    this.#next ??= this.#sending.then(() => {
      this.#next = undefined;
      const names = [...this.#pending];
      this.#pending.clear();
      this.#sending = this.#send(names);
      return this.#sending;
    });
    await within(this.#next, PUBLISH_TIMEOUT_MS, undefined);
  }

  waitFor(channel: SignalChannel, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    if (signal?.aborted || this.#isClosed) return Promise.resolve(false);
    this.#subscribe();
    const waitMs = this.#isHearing ? timeoutMs : Math.min(timeoutMs, spreadMs());
    return new Promise((resolve) => {
      const own = this.#waiters.get(channel) ?? new Set<() => void>();
      this.#waiters.set(channel, own);
      const end = (isSignalled: boolean): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", giveUp);
        own.delete(wake);
        if (own.size === 0 && this.#waiters.get(channel) === own) this.#waiters.delete(channel);
        resolve(isSignalled);
      };
      const wake = (): void => end(true);
      const giveUp = (): void => end(false);
      const timer = setTimeout(giveUp, waitMs);
      own.add(wake);
      signal?.addEventListener("abort", giveUp, { once: true });
    });
  }

  /** Ends all waits. The connections are closed by who opened them. */
  close(): void {
    this.#isClosed = true;
    for (const name of this.#waiters.keys()) this.#wake(name);
  }

  /** How many wait just now, for metrics. */
  get waiting(): number {
    let count = 0;
    for (const own of this.#waiters.values()) count += own.size;
    return count;
  }

  #wake(name: string): void {
    for (const finish of this.#waiters.get(name) ?? []) finish();
  }

  async #send(names: readonly string[]): Promise<void> {
    const { publisher, log } = this.#options;
    const messages: Promise<number>[] = [];
    for (let start = 0; start < names.length; start += NAMES_PER_MESSAGE_MAX) {
      const some = names.slice(start, start + NAMES_PER_MESSAGE_MAX);
      messages.push(publisher.publish(this.#channel, `${this.#origin} ${some.join(" ")}`));
    }
    const results = await Promise.allSettled(messages);
    const failed = results.find((result) => result.status === "rejected");
    if (failed)
      log.debug({ err: failed.reason as unknown, names: names.length }, "signals dropped");
  }

  #subscribe(): Redis {
    if (this.#subscriber) return this.#subscriber;
    const subscriber = this.#options.openSubscriber();
    this.#subscriber = subscriber;
    subscriber.on("message", (channel: string, message: string) => {
      if (channel !== this.#channel) return;
      const [origin, ...names] = message.split(" ");
      if (origin === this.#origin) return; // woken at publish
      for (const name of names) this.#wake(name);
    });
    const subscribe = (): void => {
      subscriber.subscribe(this.#channel).then(
        () => {
          this.#isHearing = true;
          subscriber.emit("berth-hearing");
        },
        (error: unknown) => this.#options.log.debug({ err: error }, "not subscribed to signals"),
      );
    };
    subscriber.on("ready", subscribe);
    subscriber.on("close", () => {
      if (!this.#isHearing) return;
      this.#isHearing = false;
      this.#shortenWaits();
    });
    if (subscriber.status === "ready") subscribe();
    return subscriber;
  }

  #shortenWaits(): void {
    for (const own of this.#waiters.values()) {
      for (const finish of own) setTimeout(finish, spreadMs()).unref();
    }
  }
}

function spreadMs(): number {
  return DEAF_WAIT_MS_MAX * (0.5 + Math.random() / 2);
}
