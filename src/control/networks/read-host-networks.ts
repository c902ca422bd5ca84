import { setTimeout as pause } from "node:timers/promises";
import type { HostNetworksQuery } from "../../contracts/agent-protocol/host-networks.ts";
import { confirmGatewayDepartures } from "../../db/queries/networks/gateways.ts";
import { isAborted, linkAbort } from "../../lib/async/abort.ts";
import { hashSecret } from "../../lib/token-hash.ts";
import type { ControlContext } from "../runtime/context.ts";
import { areWithinLimits, type SharedHostNetworks, toHostNetworks } from "./host-networks.ts";
import type { NetworkFeed } from "./network-feed.ts";
import type { NetworkFeeds } from "./network-feeds.ts";

const VERSION_CHARACTERS = 32;
/** Signals of the host within this time share one read of its list of networks. */
const COALESCE_MS = 200;

/**
 * Reads the networks of a host, and waits up to `waitMs` until they differ from its version. The
 * version is a hash: a number would be a row that each placement in a network locks.
 *
 * A call reads only the list of the host's networks, once and at each signal of the host. The
 * networks come from `feeds`, which all hosts share.
 *
 * A host that has the current version has no other networks. So a gateway confirms that it no
 * longer uses the addresses that it has lost, and others may get them.
 */
export async function readHostNetworks(
  ctx: ControlContext,
  feeds: NetworkFeeds,
  hostId: string,
  { version, networkVersions, waitMs, knowsGateways = false }: HostNetworksRead,
  signal: AbortSignal,
): Promise<SharedHostNetworks> {
  const endsAtMs = performance.now() + waitMs;
  const followed = new FollowedNetworks(feeds, { hostId, knowsGateways, networkVersions });
  try {
    for (;;) {
      const leftMs = endsAtMs - performance.now();
      const { controller: waiting, unlink } = linkAbort(signal);
      try {
        const channel = `host:${hostId}` as const;
        const ofHost = ctx.signals.waitFor(channel, Math.max(0, leftMs), waiting.signal);
        const isOver = ofHost.then((isWoken) => {
          waiting.abort();
          return isWoken;
        });
        const { networkIds, isLeaving } = await feeds.readNetworksOnHost(hostId);
        await followed.update(networkIds);
        if (isLeaving && followed.version === version)
          await confirmGatewayDepartures(ctx.db, hostId, followed.listPublished());
        for (;;) {
          if (followed.version !== version) return await followed.answer(ctx.log);
          if (leftMs <= 0 || isAborted(waiting.signal)) break;
          await Promise.race([isOver, followed.waitForChange(leftMs, waiting.signal)]);
        }
        if (!(await isOver)) return { version, networks: null };
      } finally {
        waiting.abort();
        unlink();
      }
      await pause(COALESCE_MS);
    }
  } finally {
    followed.stop();
  }
}

type HostNetworksRead = Pick<HostNetworksQuery, "version" | "networkVersions" | "waitMs"> &
  Partial<Pick<HostNetworksQuery, "knowsGateways">>;

/** The networks of one host during a call. */
class FollowedNetworks {
  readonly #feeds: NetworkFeeds;
  readonly #hostId: string;
  readonly #knowsGateways: boolean;
  /** Those of the networks that the host has. Undefined if it takes no changes. */
  readonly #versions: readonly string[] | undefined;
  readonly #followed = new Map<string, { feed: NetworkFeed; stop: () => void }>();

  constructor(
    feeds: NetworkFeeds,
    host: {
      hostId: string;
      knowsGateways: boolean;
      networkVersions: readonly string[] | undefined;
    },
  ) {
    this.#feeds = feeds;
    this.#hostId = host.hostId;
    this.#knowsGateways = host.knowsGateways;
    this.#versions = host.networkVersions;
  }

  /** Follows these networks and no others. Throws the errors of their first reads. */
  async update(networkIds: readonly string[]): Promise<void> {
    const listed = new Set(networkIds);
    for (const [id, { stop }] of this.#followed) {
      if (listed.has(id)) continue;
      this.#followed.delete(id);
      stop();
    }
    await Promise.all(networkIds.map((id) => this.#follow(id)));
  }

  async #follow(networkId: string): Promise<void> {
    const followed =
      this.#followed.get(networkId) ?? this.#feeds.follow(networkId, this.#versions !== undefined);
    this.#followed.set(networkId, followed);
    await followed.feed.started;
    // The list is newer than the feed, which has not seen the signal of the placement yet.
    if (!followed.feed.hasHost(this.#hostId)) await followed.feed.refresh();
  }

  /** Differs if the answer differs. */
  get version(): string {
    const versions = this.#joined().map(({ version }) => version);
    const form = this.#knowsGateways ? ["gateways"] : [];
    return hashSecret([this.#hostId, ...form, ...versions].join(" ")).slice(0, VERSION_CHARACTERS);
  }

  /**
   * The answer with the newest networks, in its turn after those to other hosts. A host beyond its
   * limits gets its networks whole, because the omissions of one depend on the others. So does a
   * host of a network with gateways, because changes have no members for gateways.
   */
  answer(log: ControlContext["log"]): Promise<SharedHostNetworks> {
    return this.#feeds.answer(() => {
      const { version } = this;
      const hostId = this.#hostId;
      const knowsGateways = this.#knowsGateways;
      const joined = this.#joined();
      const networks = joined.flatMap(({ network }) => network ?? []);
      const toHost = (of: typeof networks) => toHostNetworks(of, hostId, log, { knowsGateways });
      const versions = this.#versions;
      const hasGateways = networks.some(({ publishers }) => publishers.length > 0);
      if (!versions || hasGateways || !areWithinLimits(networks))
        return { version, networks: toHost(networks) };
      const changes = joined.map((feed) => feed.changeFor(hostId, versions));
      const whole = networks.filter((_, place) => changes[place]?.from === null);
      return { version, networks: toHost(whole), changes };
    });
  }

  /** The networks of which the host is a gateway in the answer. */
  listPublished(): string[] {
    return this.#joined().flatMap(({ network }) => {
      const isPublisher = network?.publishers.some(({ hostId }) => hostId === this.#hostId);
      return network && isPublisher === true ? network.networkId : [];
    });
  }

  async waitForChange(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const feeds = [...this.#followed.values()].map(({ feed }) => feed);
    if (feeds.length === 0) return new Promise(() => undefined);
    const { controller: waiting, unlink } = linkAbort(signal);
    await Promise.race(feeds.map((feed) => feed.waitForChange(timeoutMs, waiting.signal)));
    waiting.abort();
    unlink();
  }

  stop(): void {
    for (const { stop } of this.#followed.values()) stop();
    this.#followed.clear();
  }

  /** The feeds of the networks that the host has a set in or is a gateway of, by VNI. */
  #joined(): NetworkFeed[] {
    return [...this.#followed.values()]
      .map(({ feed }) => feed)
      .filter((feed) => feed.hasHost(this.#hostId))
      .sort((a, b) => (a.network?.vni ?? 0) - (b.network?.vni ?? 0));
  }
}
