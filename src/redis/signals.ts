import type { Redis } from "ioredis";
import { newId } from "../lib/ids.ts";
import type { Log } from "../lib/log.ts";
import { onAbort } from "../lib/async/abort.ts";
import { withTimeout } from "../lib/async/with-timeout.ts";
import type { SignalChannel, Signals } from "../control/runtime/context.ts";

const PUBLISH_TIMEOUT_MS = 250;
/** Names in one message. A commit that wakes 4,000 hosts sends four messages of about 35 KB. */
const NAMES_PER_MESSAGE_MAX = 1_000;
/** Maximum names that wait for a slow Redis; further names are dropped. */
const NAMES_PENDING_MAX = 50_000;
/** Maximum wait while the subscription is down; waits end with jitter. */
const UNSUBSCRIBED_WAIT_MS_MAX = 4_000;

/**
 * The subscriber checks its connection this often, and reconnects after a timeout. A subscribed
 * connection must answer a ping in time. A new connection must be subscribed in time.
 */
const HEARTBEAT_INTERVAL_MS = 5_000;
const HEARTBEAT_TIMEOUT_MS = 3_000;

export interface RedisSignalsOptions {
  publisher: Redis;
  /** Opens the subscriber connection, once, at the first wait. No other code may use it. */
  openSubscriber(): Redis;
  prefix: string;
  log: Log;
  heartbeat?: { intervalMs: number; timeoutMs: number };
}

/**
 * Signals over one Redis channel for all of Berth. Each message is a list of names.
 *
 * One channel per name would need a subscription per long poll, and a PUBLISH per host that a
 * commit wakes. With one channel, a wait costs a map entry and a commit costs a few messages. Every
 * process reads every name: 10,000 signals a second cost 350 KB and a few milliseconds.
 *
 * Names that arrive while a message is in flight form the next message. Waiters of this process
 * wake immediately, without Redis. While the subscription is down, a missed wake would cost a whole
 * long poll. Waits are then short, with jitter, so that the hosts of a fleet do not poll at the
 * same time.
 *
 * A heartbeat detects a half-open connection, which TCP reports only after minutes.
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
  #isSubscribed = false;
  /** When TCP connected, by `performance.now`. */
  #connectedAtMs: number | undefined;
  #isClosed = false;
  #heartbeat: ReturnType<typeof setInterval> | undefined;

  constructor(options: RedisSignalsOptions) {
    this.#options = options;
    this.#channel = `${options.prefix}:signals`;
  }

  /** Resolves to true once the process is subscribed, or to false after `timeoutMs`. */
  async listen(timeoutMs: number): Promise<boolean> {
    const subscriber = this.#subscribe();
    if (this.#isSubscribed) return true;
    let onSubscribed = (): void => undefined;
    const subscribed = new Promise<true>((resolve) => {
      onSubscribed = () => resolve(true);
      subscriber.once("berth-subscribed", onSubscribed);
    });
    const isSubscribed = await withTimeout(subscribed, timeoutMs, false);
    subscriber.off("berth-subscribed", onSubscribed);
    return isSubscribed;
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
    await withTimeout(this.#next, PUBLISH_TIMEOUT_MS, undefined);
  }

  waitFor(channel: SignalChannel, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    if (signal?.aborted || this.#isClosed) return Promise.resolve(false);
    this.#subscribe();
    const waitMs = this.#isSubscribed ? timeoutMs : Math.min(timeoutMs, spreadMs());
    return new Promise((resolve) => {
      const own = this.#waiters.get(channel) ?? new Set<() => void>();
      this.#waiters.set(channel, own);
      const end = (isSignaled: boolean): void => {
        clearTimeout(timer);
        unlisten();
        own.delete(wake);
        if (own.size === 0 && this.#waiters.get(channel) === own) this.#waiters.delete(channel);
        resolve(isSignaled);
      };
      const wake = (): void => end(true);
      const giveUp = (): void => end(false);
      const timer = setTimeout(giveUp, waitMs);
      own.add(wake);
      const unlisten = onAbort(signal, giveUp);
    });
  }

  /** Ends all waits. The owner of the connections closes them. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#heartbeat);
    for (const name of this.#waiters.keys()) this.#wake(name);
  }

  /** The number of current waits, for metrics. */
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
      log.debug({ err: failed.reason as unknown, names: names.length }, "cannot publish signals");
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
          this.#isSubscribed = true;
          subscriber.emit("berth-subscribed");
        },
        (error: unknown) => this.#options.log.debug({ err: error }, "cannot subscribe to signals"),
      );
    };
    subscriber.on("connect", () => (this.#connectedAtMs = performance.now()));
    subscriber.on("ready", subscribe);
    subscriber.on("close", () => {
      this.#connectedAtMs = undefined;
      if (!this.#isSubscribed) return;
      this.#isSubscribed = false;
      this.#shortenWaits();
    });
    const isConnected = subscriber.status === "connect" || subscriber.status === "ready";
    if (isConnected) this.#connectedAtMs = performance.now();
    if (subscriber.status === "ready") subscribe();
    const { intervalMs } = this.#heartbeatTimes();
    this.#heartbeat = setInterval(() => {
      if (this.#isSubscribed) void this.#checkSubscriber(subscriber);
      else this.#checkConnection(subscriber);
    }, intervalMs);
    this.#heartbeat.unref();
    return subscriber;
  }

  #heartbeatTimes() {
    return (
      this.#options.heartbeat ?? {
        intervalMs: HEARTBEAT_INTERVAL_MS,
        timeoutMs: HEARTBEAT_TIMEOUT_MS,
      }
    );
  }

  /** Drops a connection that was not subscribed in time after TCP connected. */
  #checkConnection(subscriber: Redis): void {
    const connectedAtMs = this.#connectedAtMs;
    const { timeoutMs } = this.#heartbeatTimes();
    if (connectedAtMs === undefined || performance.now() - connectedAtMs < timeoutMs) return;
    this.#options.log.warn({}, "signal subscription is not confirmed, reconnecting");
    this.#connectedAtMs = undefined;
    subscriber.disconnect(true);
  }

  /** Drops a connection that does not answer a ping. ioredis then reconnects. */
  async #checkSubscriber(subscriber: Redis): Promise<void> {
    const ping = subscriber.ping().then(
      () => true,
      () => false,
    );
    if (await withTimeout(ping, this.#heartbeatTimes().timeoutMs, false)) return;
    if (!this.#isSubscribed || this.#isClosed) return;
    this.#options.log.warn({}, "signal subscription does not respond, reconnecting");
    this.#isSubscribed = false;
    this.#shortenWaits();
    subscriber.disconnect(true);
  }

  #shortenWaits(): void {
    for (const own of this.#waiters.values()) {
      for (const finish of own) setTimeout(finish, spreadMs()).unref();
    }
  }
}

function spreadMs(): number {
  return UNSUBSCRIBED_WAIT_MS_MAX * (0.5 + Math.random() / 2);
}
