import { setTimeout as delay } from "node:timers/promises";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { openProducerRedis, openSubscriberRedis } from "../../../src/redis/redis-connection.ts";
import { RedisSignals } from "../../../src/redis/signals.ts";
import { RedisStreamRelay } from "../../../src/redis/log-stream-relay.ts";
import { newId } from "../../../src/lib/ids.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { describeSignals } from "../../contract/signals.ts";
import { describeStreamRelay } from "../../contract/stream-relay.ts";
import { createLocalSignals } from "../../support/fakes/local-signals.ts";
import { createLocalStreams } from "../../support/fakes/local-streams.ts";
import { type RedisServer, startRedis } from "../../support/servers/redis-server.ts";
import { waitUntil } from "../../support/wait-until.ts";
import { createTestRedis, type TestRedis } from "../../support/servers/test-services.ts";

/** The signals and streams of one process. */
interface Adapters {
  signals: RedisSignals;
  streams: RedisStreamRelay;
  producer: Redis;
  close(): void;
}

function openAdapters(url: string, prefix: string): Adapters {
  const producer = openProducerRedis(url, silentLog);
  const open = [producer];
  const signals = new RedisSignals({
    publisher: producer,
    openSubscriber: () => {
      const subscriber = openSubscriberRedis(url, silentLog);
      open.push(subscriber);
      return subscriber;
    },
    prefix,
    log: silentLog,
  });
  return {
    signals,
    streams: new RedisStreamRelay(producer, prefix),
    producer,
    close: () => {
      signals.close();
      for (const redis of open) redis.disconnect();
    },
  };
}

async function openSubscribed(url: string, prefix: string): Promise<Adapters> {
  const adapters = openAdapters(url, prefix);
  if (!(await adapters.signals.listen(5_000))) throw new Error("redis does not answer");
  // A producer drops its input until it is connected.
  await waitUntil("the producer is connected", () => adapters.producer.status === "ready");
  return adapters;
}

afterEach(() => void vi.restoreAllMocks());

describe("over Redis", () => {
  let redis: TestRedis;
  let one: Adapters;
  let other: Adapters;
  beforeAll(async () => {
    redis = await createTestRedis();
    [one, other] = await Promise.all([
      openSubscribed(redis.url, redis.prefix),
      openSubscribed(redis.url, redis.prefix),
    ]);
  });
  afterAll(async () => {
    one.close();
    other.close();
    await redis.release();
  });

  describe("signals", () => {
    describeSignals(() => ({ here: one.signals, there: other.signals }));

    it("installations with different prefixes do not receive each other's signals", async () => {
      const stranger = await openSubscribed(redis.url, `${redis.prefix}-2`);
      const startedAtMs = performance.now();
      const wait = stranger.signals.waitFor("events", 300);
      await one.signals.publish(["events"]);
      await wait;
      stranger.close();
      expect(performance.now() - startedAtMs).toBeGreaterThanOrEqual(290);
    });

    it("5,000 waits need no subscriptions of their own, and leave no state", async () => {
      const waits = Array.from({ length: 5_000 }, (_, index) =>
        one.signals.waitFor(`host:host_${index}`, 20_000),
      );
      expect(one.signals.waiting).toBe(5_000);
      const names = Array.from({ length: 5_000 }, (_, index) => `host:host_${index}` as const);
      await other.signals.publish(names);
      await Promise.all(waits);
      expect(one.signals.waiting).toBe(0);
      const [, subscribers] = await one.producer.pubsub("NUMSUB", `${redis.prefix}:signals`);
      expect(subscribers).toBe(2);
    });
  });

  describe("log streams", () => {
    describeStreamRelay(() => ({ reader: one.streams, writer: other.streams }));

    it("a writer waits while its reader reads nothing", async () => {
      const request = requestOf();
      await one.streams.request("host_slow", request);
      let appended = 0;
      const writing = (async () => {
        for (let count = 0; count < 200; count++) {
          await other.streams.append(request.streamId, new Uint8Array(1_024));
          appended++;
        }
        await other.streams.end(request.streamId);
      })();
      const chunksKey = `${redis.prefix}:streams:chunks:${request.streamId}`;
      await expect.poll(() => one.producer.llen(chunksKey)).toBe(64);
      await delay(200);
      expect(appended).toBe(64);
      let bytes = 0;
      for await (const chunk of one.streams.read(request.streamId, AbortSignal.timeout(20_000)))
        bytes += chunk.length;
      await writing;
      expect(bytes).toBe(200 * 1_024);
    });

    it("a reader receives an error if no agent sends the log", { timeout: 300_000 }, async () => {
      const request = requestOf();
      await one.streams.request("host_silent", request);
      const reading = one.streams.read(request.streamId, AbortSignal.timeout(30_000));
      await expect(reading.next()).rejects.toMatchObject({ code: "dependency-unavailable" });
    });

    it("a quiet container is not mistaken for an absent agent", { timeout: 300_000 }, async () => {
      const request = requestOf();
      await one.streams.request("host_quiet", request);
      await other.streams.append(request.streamId, new Uint8Array());
      const stopping = new AbortController();
      const reading = one.streams.read(request.streamId, stopping.signal).next();
      const outcome = await Promise.race([reading, delay(11_000).then(() => "still reading")]);
      stopping.abort();
      await reading;
      expect(outcome).toBe("still reading");
    });

    it("I16: a step of the wall clock does not end a reader's wait for its agent", async () => {
      const request = requestOf();
      await one.streams.request("host_clock", request);
      const reader = one.streams.read(request.streamId, AbortSignal.timeout(20_000));
      const reading = reader.next();
      reading.catch(() => undefined); // expected below
      stepWallClock(7_200_000);
      await delay(500);
      await other.streams.append(request.streamId, Buffer.from("first"));
      expect(Buffer.from((await reading).value ?? []).toString()).toBe("first");
      await reader.return(undefined);
    });

    it("I16: a step of the wall clock does not end a writer's wait for its reader", async () => {
      const request = requestOf();
      await one.streams.request("host_clock", request);
      for (let count = 0; count < 64; count++)
        await other.streams.append(request.streamId, new Uint8Array(1));
      const writing = other.streams.append(request.streamId, new Uint8Array(1));
      writing.catch(() => undefined); // expected below
      stepWallClock(7_200_000);
      await delay(500);
      const reader = one.streams.read(request.streamId, AbortSignal.timeout(20_000));
      await reader.next();
      await expect(writing).resolves.toBeUndefined();
      await reader.return(undefined);
    });

    it("a host gets no more requests than its limit", async () => {
      for (let count = 0; count < 100; count++) await one.streams.request("host_full", requestOf());
      await expect(one.streams.request("host_full", requestOf())).rejects.toMatchObject({
        code: "rate-limited",
      });
    });

    it("everything that a stream stores in Redis expires", async () => {
      const request = requestOf();
      await one.streams.request("host_gone", request);
      await other.streams.append(request.streamId, Buffer.from("never read"));
      const keys = await one.producer.keys(`${redis.prefix}:streams:*`);
      const lifetimes = await Promise.all(keys.map((key) => one.producer.pttl(key)));
      expect(keys.length).toBeGreaterThanOrEqual(3);
      for (const ms of lifetimes) {
        expect(ms).toBeGreaterThan(0);
        expect(ms).toBeLessThanOrEqual(30_000);
      }
    });
  });
});

describe("while Redis is unreachable", () => {
  let server: RedisServer;
  let adapters: Adapters;
  beforeAll(async () => {
    server = await startRedis();
    adapters = await openSubscribed(server.url, "away");
  });
  afterAll(async () => {
    adapters.close();
    await server.stop();
  });

  it("nothing throws or hangs, waits end early, and everything recovers with Redis", async () => {
    const waitEarly = timed(() => adapters.signals.waitFor("host:host_a", 25_000));
    await server.process.kill("SIGKILL");
    // A long poll in flight ends early, because it can no longer receive signals.
    expect(await waitEarly).toBeLessThan(20_000);
    expect(await timed(() => adapters.signals.publish(["events"]))).toBeLessThan(10_000);
    expect(await timed(() => adapters.signals.waitFor("events", 25_000))).toBeLessThan(20_000);
    expect(await adapters.streams.takeRequests("host_a")).toEqual([]);
    await expect(adapters.streams.request("host_a", requestOf())).rejects.toMatchObject({
      code: "dependency-unavailable",
    });

    // Signals within the process still work.
    const local = timed(() => adapters.signals.waitFor("set:set_a", 25_000));
    await adapters.signals.publish(["set:set_a"]);
    expect(await local).toBeLessThan(20_000);

    server = await startRedis({ port: server.port });
    expect(await adapters.signals.listen(10_000)).toBe(true);
    const stranger = await openSubscribed(server.url, "away");
    const received = timed(() => adapters.signals.waitFor("events", 25_000));
    await stranger.signals.publish(["events"]);
    expect(await received).toBeLessThan(20_000);
    stranger.close();
  });

  it("a Redis that hangs delays callers for a bounded time", async () => {
    process.kill(server.process.pid, "SIGSTOP");
    try {
      expect(await timed(() => adapters.signals.publish(["events"]))).toBeLessThan(10_000);
      expect(
        await timed(async () => void (await adapters.streams.takeRequests("host_a"))),
      ).toBeLessThan(10_000);
    } finally {
      process.kill(server.process.pid, "SIGCONT");
    }
  });
});

describe("the tests' own stand-ins", () => {
  const signals = createLocalSignals();
  describeSignals(() => ({ here: signals, there: signals }));
  const streams = createLocalStreams();
  describeStreamRelay(() => ({ reader: streams, writer: streams }));
});

function requestOf() {
  return {
    streamId: newId("str"),
    setId: newId("set"),
    container: "app",
    follow: true,
    tail: 0,
  };
}

/** Changes the wall clock of this process until the test ends. */
function stepWallClock(stepMs: number): void {
  const now = Date.now;
  vi.spyOn(Date, "now").mockImplementation(() => now() + stepMs);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now();
  await work();
  return performance.now() - startedAtMs;
}
