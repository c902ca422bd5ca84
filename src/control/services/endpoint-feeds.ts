import { setTimeout as delay } from "node:timers/promises";
import { type EndpointList, ENDPOINTS_MAX } from "../../contracts/api/endpoints.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { findEndpoints, type ServiceEndpoints } from "../../db/queries/services/endpoints.ts";
import { assert } from "../../lib/assert.ts";
import { Waiters } from "../../lib/async/waiters.ts";
import { bindWork } from "../runtime/bind-work.ts";
import type { ControlContext } from "../runtime/context.ts";
import { pollUntil } from "../runtime/wait-until.ts";
import { toEndpointList } from "./list-endpoints.ts";

/** A lost signal delays a change by at most this time. */
const POLL_MS_MAX = 5_000;
/** The shortest time between two reads: changes in between are one change of the list. */
const READ_GAP_MS = 50;
const RETRY_MS = 1_000;

/**
 * Follows the endpoints of services for all streams of this process. One loop for each followed
 * service reads its list at the signals of the service, at least 50 ms apart. It also reads every
 * 5 s, because signals may be lost. The number of followers does not increase the load of the
 * database.
 *
 * A feed runs while it has a follower. It caches only the newest list. A slow follower skips the
 * lists in between.
 */
export class EndpointFeeds {
  readonly #ctx: ControlContext;
  readonly #read: typeof findEndpoints;
  readonly #feeds = new Map<string, EndpointFeed>();

  /** @param read a function that reads as `findEndpoints` does */
  constructor(ctx: ControlContext, read: typeof findEndpoints = findEndpoints) {
    this.#ctx = ctx;
    this.#read = read;
  }

  /**
   * Starts to follow, with the newest list in the feed. Call `stop` once when the stream ends.
   * Throws not-found.
   */
  async follow(tenantId: string, name: string): Promise<{ feed: EndpointFeed; stop: () => void }> {
    const key = `${tenantId} ${name}`;
    const feed = this.#feeds.get(key) ?? this.#start(key, tenantId, name);
    feed.followers += 1;
    const stop = (): void => {
      feed.followers -= 1;
      if (feed.followers === 0) this.#end(key, feed);
    };
    try {
      await feed.started;
    } catch (error) {
      stop();
      throw error;
    }
    return { feed, stop };
  }

  #start(key: string, tenantId: string, name: string): EndpointFeed {
    const ctx = bindWork(this.#ctx, { kind: "request", owner: tenantId });
    const read = () => this.#read(ctx.db, tenantId, name, ENDPOINTS_MAX);
    const feed = new EndpointFeed(name);
    this.#feeds.set(key, feed);
    feed.started = read().then((found) => {
      if (!found) throw notFound("service");
      feed.publish(found);
      const { serviceId } = found;
      void this.#run(ctx, feed, serviceId, read).finally(() => this.#end(key, feed));
    });
    return feed;
  }

  #end(key: string, feed: EndpointFeed): void {
    feed.end();
    if (this.#feeds.get(key) === feed) this.#feeds.delete(key);
  }

  /** Reads until the service is deleted, or no one follows. Never throws. */
  async #run(
    ctx: ControlContext,
    feed: EndpointFeed,
    serviceId: string,
    read: () => Promise<ServiceEndpoints | undefined>,
  ): Promise<void> {
    const channel = `service:${serviceId}` as const;
    const limits = { pollMsMax: POLL_MS_MAX, readGapMs: READ_GAP_MS };
    const readNext = async (): Promise<{ isDone: boolean; value: undefined }> => {
      const found = await read();
      const isSame = found?.serviceId === serviceId;
      feed.publish(isSame ? found : { total: 0, endpoints: [], gateways: [] });
      return { isDone: !isSame, value: undefined };
    };
    for (let isFailing = false; !feed.ended.aborted;) {
      try {
        await pollUntil(ctx, channel, Number.POSITIVE_INFINITY, feed.ended, readNext, limits);
        return;
      } catch (error) {
        if (!isFailing) ctx.log.warn({ err: error, serviceId }, "cannot read followed endpoints");
        isFailing = true;
        await delay(RETRY_MS, undefined, { signal: feed.ended }).catch(() => undefined);
      }
    }
  }
}

/** The newest list of one service, for its followers. */
export class EndpointFeed {
  followers = 0;
  /** Settles after the first read. */
  started: Promise<void> = Promise.resolve();
  readonly #service: string;
  readonly #ending = new AbortController();
  readonly #waiters = new Waiters();
  #list: EndpointList | undefined;

  constructor(service: string) {
    this.#service = service;
  }

  get list(): EndpointList {
    assert(this.#list, "a feed with a follower has a list");
    return this.#list;
  }

  /** Aborts when the feed has its last list. */
  get ended(): AbortSignal {
    return this.#ending.signal;
  }

  publish(found: Omit<ServiceEndpoints, "serviceId">): void {
    const list = toEndpointList(this.#service, found);
    if (list.version === this.#list?.version) return;
    this.#list = list;
    this.#waiters.wakeAll();
  }

  end(): void {
    this.#ending.abort();
    this.#waiters.wakeAll();
  }

  /** Resolves when the list has changed, after `timeoutMs`, or when `signal` aborts. */
  waitForChange(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return this.#waiters.wait(timeoutMs, signal);
  }
}
