import { setImmediate as nextTurn } from "node:timers/promises";
import {
  findFleetNetwork,
  type NetworksOnHost,
  readNetworksOnHosts,
} from "../../db/queries/networks/host-networks.ts";
import { createBatchedRead } from "../../lib/async/batch-reads.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import { bindWork } from "../runtime/bind-work.ts";
import type { ControlContext } from "../runtime/context.ts";
import { createNetworkReader } from "./read-fleet-network.ts";
import { NetworkFeed, type NetworkFeedLimits } from "./network-feed.ts";

interface NetworkFeedsLimits extends NetworkFeedLimits {
  /** The time for which a feed stays without a follower. A host pauses between its polls. */
  lingerMs: number;
}

const defaultLimits: NetworkFeedsLimits = {
  settleMs: 50,
  readGapMs: 200,
  pollMs: 20_000,
  retryMs: 1_000,
  lingerMs: 10_000,
};

/** A change wakes all hosts of a network, which then call again in the same moment. */
const listLimits = { keysMax: 64, batchesMax: 2 };

/**
 * Follows networks for all hosts that wait in this process. One loop for each followed network
 * reads it at the signals of the network and of its services. So a change in a network costs one
 * read in each API process, whatever the number of its hosts.
 *
 * The read of a change begins 50 ms after its signal, and 200 ms after the previous read. This gap
 * is longer, up to 10 s, while the answers to all hosts would use half of the process. If the
 * signal is lost, it begins within 20 s. A feed caches only the newest read, about 1 KB for each
 * set that has an address in the network. It ends 10 s after its last follower.
 */
export class NetworkFeeds {
  readonly #ctx: ControlContext;
  readonly #read: typeof findFleetNetwork;
  readonly #limits: NetworkFeedsLimits;
  readonly #feeds = new Map<string, NetworkFeed>();
  readonly #takeTurn = createConcurrencyLimit(1);
  /** Lists the networks of a host. Concurrent callers share reads. */
  readonly readNetworksOnHost: (hostId: string) => Promise<NetworksOnHost>;

  /** @param read a function that reads as `findFleetNetwork` does */
  constructor(
    ctx: ControlContext,
    read: typeof findFleetNetwork = findFleetNetwork,
    limits: Partial<NetworkFeedsLimits> = {},
  ) {
    this.#ctx = bindWork(ctx, { kind: "agent" });
    this.#read = read;
    this.#limits = { ...defaultLimits, ...limits };
    this.readNetworksOnHost = createBatchedRead(
      (hostIds) => readNetworksOnHosts(this.#ctx.db, hostIds),
      listLimits,
    );
  }

  /**
   * Starts to follow a network. Call `stop` once, even if `feed.started` rejects.
   *
   * @param takesChanges whether the host can get changes instead of the whole network
   */
  follow(networkId: string, takesChanges = true): { feed: NetworkFeed; stop: () => void } {
    const feed = this.#feeds.get(networkId) ?? this.#start(networkId);
    feed.followers += 1;
    feed.wholeFollowers += Number(!takesChanges);
    const stop = (): void => {
      feed.wholeFollowers -= Number(!takesChanges);
      this.#leave(networkId, feed);
    };
    return { feed, stop };
  }

  /**
   * Builds an answer after those of other hosts, each in a turn of the event loop of its own. A
   * change wakes all hosts of a network, and their answers would otherwise stop other requests.
   */
  answer<T>(build: () => T): Promise<T> {
    return this.#takeTurn(async () => {
      await nextTurn();
      return build();
    });
  }

  #start(networkId: string): NetworkFeed {
    const read = createNetworkReader(this.#ctx.db, networkId, this.#read);
    const feed = new NetworkFeed(this.#ctx, networkId, read);
    this.#feeds.set(networkId, feed);
    void feed.run(this.#limits);
    // The next follower tries again.
    feed.started.catch(() => this.#end(networkId, feed));
    return feed;
  }

  #leave(networkId: string, feed: NetworkFeed): void {
    feed.followers -= 1;
    if (feed.followers > 0) return;
    const leftAtMs = performance.now();
    feed.leftAtMs = leftAtMs;
    const endIfUnused = (): void => {
      if (feed.followers === 0 && feed.leftAtMs === leftAtMs) this.#end(networkId, feed);
    };
    setTimeout(endIfUnused, this.#limits.lingerMs).unref();
  }

  #end(networkId: string, feed: NetworkFeed): void {
    feed.end();
    if (this.#feeds.get(networkId) === feed) this.#feeds.delete(networkId);
  }
}
