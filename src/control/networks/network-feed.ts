import { setTimeout as pause } from "node:timers/promises";
import { isAborted, linkAbort } from "../../lib/async/abort.ts";
import { Waiters } from "../../lib/async/waiters.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext, SignalChannel } from "../runtime/context.ts";
import { waitForAny } from "../runtime/wait-until.ts";
import type { NetworkWithRules } from "./read-fleet-network.ts";

export interface NetworkFeedLimits {
  /** The pause between a signal and the read. The signals of one commit share a read. */
  settleMs: number;
  /** The shortest time between two reads: changes in between are one change for the hosts. */
  readGapMs: number;
  /** A lost signal delays a change by at most this time. */
  pollMs: number;
  /** The pause after a failed read. */
  retryMs: number;
}

/** A slow read is repeated later, so that a feed uses at most a fifth of a connection. */
const PAUSE_PER_READ = 5;
/** The answers to all hosts of a large network use at most half of the process. */
const PAUSE_PER_ANSWERS = 2;
const PAUSE_MS_MAX = 10_000;
/** The speed at which an API process writes answers, measured on a slow machine. */
const ANSWER_BYTES_PER_MS = 100_000;
const BYTES_PER_RULE = 250;

/** The newest read of one network, for the hosts that follow it. */
export class NetworkFeed {
  followers = 0;
  /** When the last follower left, by `performance.now`. */
  leftAtMs = 0;
  /** Settles after the first read. */
  readonly started: Promise<void>;
  readonly #ctx: Pick<ControlContext, "signals" | "log">;
  readonly #networkId: string;
  readonly #read: () => Promise<NetworkWithRules | undefined>;
  readonly #ending = new AbortController();
  readonly #waiters = new Waiters();
  #current: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #network: NetworkWithRules | undefined;
  #hostIds: ReadonlySet<string> = new Set();
  #version = "";
  /** The approximate size of an answer. */
  #bytes = 0;

  constructor(
    ctx: Pick<ControlContext, "signals" | "log">,
    networkId: string,
    read: () => Promise<NetworkWithRules | undefined>,
  ) {
    this.#ctx = ctx;
    this.#networkId = networkId;
    this.#read = read;
    this.started = this.refresh();
  }

  /** Undefined if the network is deleted. All followers share the object: do not change it. */
  get network(): NetworkWithRules | undefined {
    return this.#network;
  }

  /** A hash of the network, equal in all processes. */
  get version(): string {
    return this.#version;
  }

  /** Whether a set of the host has an address in the network. */
  hasHost(hostId: string): boolean {
    return this.#hostIds.has(hostId);
  }

  /** Resolves at the next change, after `timeoutMs`, or when `signal` aborts. */
  waitForChange(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return this.#waiters.wait(timeoutMs, signal);
  }

  /** Reads the network. Concurrent callers share the next read that begins. */
  refresh(): Promise<void> {
    // The read in progress may lack the change that the caller expects.
    this.#next ??= this.#current.then(() => {
      this.#next = undefined;
      const read = this.#readOnce();
      this.#current = read.catch(() => undefined);
      return read;
    });
    return this.#next;
  }

  /**
   * Reads at the signals of the network and of its services, until `end`. A change of the endpoints
   * of a service signals the service. Never throws.
   */
  async run({ settleMs, readGapMs, pollMs, retryMs }: NetworkFeedLimits): Promise<void> {
    const { signals, log } = this.#ctx;
    const ended = this.#ending.signal;
    const rest = (ms: number): Promise<void> =>
      pause(ms, undefined, { signal: ended, ref: false }).catch(() => undefined);
    let channels = this.#channels();
    let isFailing = false;
    for (let isFirst = true; !isAborted(ended); isFirst = false) {
      const startedAt = performance.now();
      const { controller: listening, unlink } = linkAbort(ended);
      const woken = waitForAny(signals, channels, pollMs, listening.signal);
      try {
        await (isFirst ? this.started : this.refresh());
        const readMs = performance.now() - startedAt;
        isFailing = false;
        const known = new Set(channels);
        channels = this.#channels();
        // The signals of a new service are lost until the wait includes them, so read again.
        if (channels.some((channel) => !known.has(channel))) continue;
        await woken;
        const answersMs = (this.followers * this.#bytes) / ANSWER_BYTES_PER_MS;
        const pauseMs = Math.max(readMs * PAUSE_PER_READ, answersMs * PAUSE_PER_ANSWERS);
        const gapMs = Math.max(readGapMs, Math.min(pauseMs, PAUSE_MS_MAX));
        await rest(Math.max(settleMs, gapMs - (performance.now() - startedAt)));
      } catch (error) {
        if (!isFailing)
          log.warn({ err: error, networkId: this.#networkId }, "cannot read a network");
        isFailing = true;
        await rest(retryMs);
      } finally {
        listening.abort();
        unlink();
      }
    }
  }

  end(): void {
    this.#ending.abort();
    this.#waiters.wakeAll();
  }

  async #readOnce(): Promise<void> {
    const network = await this.#read();
    // The rules have a hash of their own, because they are many and change rarely.
    const { rules: _rules, ...hashed } = network ?? { rules: [] };
    const text = JSON.stringify(network ? hashed : null);
    const version = hashSecret(text);
    if (version === this.#version) return;
    this.#network = network;
    this.#bytes = text.length + (network?.rules.length ?? 0) * BYTES_PER_RULE;
    this.#hostIds = new Set(network?.ports.map(({ hostId }) => hostId));
    this.#version = version;
    this.#waiters.wakeAll();
  }

  #channels(): SignalChannel[] {
    const ofServices = this.#network?.services.map(
      ({ serviceId }): SignalChannel => `service:${serviceId}`,
    );
    return [`network:${this.#networkId}`, ...(ofServices ?? [])];
  }
}
