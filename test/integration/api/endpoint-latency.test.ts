import { expect, it } from "vitest";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { EndpointFeeds } from "../../../src/control/services/endpoint-feeds.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { openProducerRedis, openSubscriberRedis } from "../../../src/redis/redis-connection.ts";
import { RedisSignals } from "../../../src/redis/signals.ts";
import { streamEndpoints } from "../../../src/routes/services/stream-endpoints.ts";
import { assert } from "../../../src/lib/assert.ts";
import { EndpointReader } from "../../support/api/endpoint-reader.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
} from "../../support/api/test-api.ts";
import { observed } from "../../support/fleet/fleet-context.ts";
import { createTestRedis } from "../../support/servers/test-services.ts";
import { waitUntil } from "../../support/wait-until.ts";

const CHANGES = 200;
const FOLLOWERS = 50;
const LATENCY_MS_MAX = 500;

/** The signals of one process. */
function openSignals(url: string, prefix: string): { signals: RedisSignals; close: () => void } {
  const publisher = openProducerRedis(url, silentLog);
  const subscriber = openSubscriberRedis(url, silentLog);
  const openSubscriber = () => subscriber;
  const signals = new RedisSignals({ publisher, openSubscriber, prefix, log: silentLog });
  const close = (): void => {
    signals.close();
    publisher.disconnect();
    subscriber.disconnect();
  };
  return { signals, close };
}

it("a change of readiness reaches the followers of another API process soon", async () => {
  const redis = await createTestRedis();
  const [here, there] = [1, 2].map(() => openSignals(redis.url, redis.prefix));
  assert(here && there, "two processes");
  const test = await createTestApi({ signals: here.signals });
  const readers: EndpointReader[] = [];
  try {
    for (const { signals } of [here, there])
      await waitUntil("Redis answers", () => signals.listen(1_000));
    const token = await test.tokenOf("tenant", "acme");
    const { credential } = await enrollTestHost(test, "h1");
    const sync = async (parts: object): Promise<SyncResult> => {
      const body = { ...emptySync, ...parts };
      const response = await test.request("POST", "/agent/v1/sync", { token: credential, body });
      return (await response.json()) as SyncResult;
    };
    await sync({ usage });
    await test.request("POST", "/v1/services", { token, body: serviceBody("web") });
    await createPlacer(test.ctx).placeSets();
    const { sets } = await sync({});
    const tenantId = (await test.api.findTenantId("acme")) ?? "";
    const feeds = new EndpointFeeds({ ...test.ctx, signals: there.signals });
    for (let count = 0; count < FOLLOWERS; count++) {
      const abort = new AbortController();
      const stream = await streamEndpoints(feeds, tenantId, "web", abort.signal);
      const reader = new EndpointReader(stream, abort);
      readers.push(reader);
      await reader.next();
    }
    const latenciesMs: number[] = [];
    for (let change = 0; change < CHANGES; change++) {
      const ready = change % 2 === 0;
      const startedAtMs = performance.now();
      const reported = sync({ observed: sets.map((set) => observed(set, "running", { ready })) });
      const messages = await Promise.all(readers.map((reader) => reader.next()));
      latenciesMs.push(performance.now() - startedAtMs);
      expect(new Set(messages.map(({ list }) => list.total))).toEqual(new Set([ready ? 2 : 0]));
      await reported;
    }
    latenciesMs.sort((a, b) => a - b);
    const [p50, p99] = [0.5, 0.99].map((share) => latenciesMs[Math.floor(CHANGES * share)]);
    console.log(`endpoint changes: p50 ${p50?.toFixed(1)} ms, p99 ${p99?.toFixed(1)} ms`);
    // A busy machine delays some changes. Without signals, most would wait for a poll.
    expect(p50).toBeLessThan(LATENCY_MS_MAX);
  } finally {
    await Promise.all(readers.map((reader) => reader.close()));
    await test.close();
    here.close();
    there.close();
    await redis.release();
  }
});

const usage = {
  used: { cpuMillis: 100, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 2 ** 33, volumeBytes: 0, rootfsBytes: 2 ** 36 },
};
