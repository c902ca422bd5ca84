import { setTimeout as pause } from "node:timers/promises";
import {
  countNetwork,
  type NetworkChange,
} from "../../contracts/agent-protocol/network-changes.ts";
import type { NetworkPort } from "../../db/queries/networks/host-networks.ts";
import { assert } from "../../lib/assert.ts";
import { isAborted, linkAbort } from "../../lib/async/abort.ts";
import { Waiters } from "../../lib/async/waiters.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext, SignalChannel } from "../runtime/context.ts";
import { waitForAny } from "../runtime/wait-until.ts";
import { NetworkHistory } from "./network-history.ts";
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

/** A slow read is repeated later, so that a feed uses at most a third of a connection. */
const PAUSE_PER_READ = 3;
/** The answers to all hosts of a large network use at most half of the process. */
const PAUSE_PER_ANSWERS = 2;
const PAUSE_MS_MAX = 10_000;
/** The speed at which an API process writes answers, measured on a slow machine. */
const ANSWER_BYTES_PER_MS = 100_000;
/** The time of an answer besides its text. */
const ANSWER_MS = 0.5;
const BYTES_PER_RULE = 250;
/** Steps that are longer than the half of the network save too little. */
const STEPS_PER_NETWORK = 1 / 2;
/** Small networks have steps, too. */
const STEP_CHARACTERS_MIN = 8_192;
const VERSION_CHARACTERS = 32;

/** The newest read of one network, for the hosts that follow it. */
export class NetworkFeed {
  followers = 0;
  /** The followers that get the network whole after each change, because their agent is older. */
  wholeFollowers = 0;
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
  readonly #history = new NetworkHistory();
  /** The number of ports on each host that other hosts can reach. */
  #portCounts: ReadonlyMap<string, number> = new Map();
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

  /** Whether a set of the host, or the host as a gateway, has an address in the network. */
  hasHost(hostId: string): boolean {
    return this.#portCounts.has(hostId) || this.#isPublisher(hostId);
  }

  #isPublisher(hostId: string): boolean {
    return this.#network?.publishers.some((gateway) => gateway.hostId === hostId) === true;
  }

  /**
   * How a host that has these versions gets the current one. Call it only if `hasHost`, and for a
   * network without gateways: the steps have no members for them.
   */
  changeFor(hostId: string, versions: readonly string[]): NetworkChange {
    const network = this.#network;
    assert(network, "a network with a host exists");
    const { networkId, rules, services } = network;
    const version = shorten(this.#version);
    const from = versions.includes(version)
      ? version
      : (versions.find((one) => this.#history.has(one)) ?? null);
    const isBehind = from !== null && from !== version;
    const counts = countNetwork({ rules, services, remotePorts: [] });
    const ports = [...this.#portCounts.values()].reduce((sum, count) => sum + count, 0);
    counts.remotePorts = ports - (this.#portCounts.get(hostId) ?? 0);
    return {
      networkId,
      version,
      from,
      steps: isBehind ? this.#history.listSteps(from, hostId) : [],
      counts,
    };
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
        const pauseMs = Math.max(readMs * PAUSE_PER_READ, this.#answersMs * PAUSE_PER_ANSWERS);
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

  /** The approximate time of the answers with one change. */
  get #answersMs(): number {
    const hasGateways = (this.#network?.publishers.length ?? 0) > 0;
    const whole = hasGateways ? this.followers : this.wholeFollowers;
    const stepBytes = this.#history.lastCharacters ?? this.#bytes;
    const bytes = whole * this.#bytes + (this.followers - whole) * stepBytes;
    return this.followers * ANSWER_MS + bytes / ANSWER_BYTES_PER_MS;
  }

  async #readOnce(): Promise<void> {
    const network = await this.#read();
    // The rules have a hash of their own, because they are many and change rarely.
    const { rules: _rules, ...hashed } = network ?? { rules: [] };
    const text = JSON.stringify(network ? hashed : null);
    const version = hashSecret(text);
    if (version === this.#version) return;
    this.#bytes = text.length + (network?.rules.length ?? 0) * BYTES_PER_RULE;
    const stepsMax = Math.max(this.#bytes * STEPS_PER_NETWORK, STEP_CHARACTERS_MIN);
    this.#history.note(shorten(this.#version), this.#network, network, stepsMax);
    this.#network = network;
    this.#portCounts = countPorts(network?.ports ?? []);
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

/** The form of a version in the agent protocol. */
function shorten(version: string): string {
  return version.slice(0, VERSION_CHARACTERS);
}

function countPorts(ports: readonly NetworkPort[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { hostId, tunnelAddress } of ports)
    counts.set(hostId, (counts.get(hostId) ?? 0) + Number(tunnelAddress !== null));
  return counts;
}
