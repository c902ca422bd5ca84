import { createServer, createConnection, type AddressInfo, type Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { silentLog } from "../../../src/lib/log.ts";
import { openProducerRedis, openSubscriberRedis } from "../../../src/redis/redis-connection.ts";
import { RedisSignals } from "../../../src/redis/signals.ts";
import { createTestRedis, type TestRedis } from "../../support/servers/test-services.ts";
import { waitUntil } from "../../support/wait-until.ts";

interface ProxyOptions {
  /** Forwards what the client of the first connection sends only up to this text. */
  stallsFirstAt?: string;
}

/** Forwards TCP connections, and can stop forwarding on the open ones without closing them. */
async function startProxy(
  target: { host: string; port: number },
  { stallsFirstAt }: ProxyOptions = {},
) {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((client) => {
    connections += 1;
    const upstream = createConnection(target);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => sockets.delete(socket));
    }
    if (connections > 1 || stallsFirstAt === undefined) client.pipe(upstream);
    else {
      let isStalled = false;
      client.on("data", (data) => {
        isStalled ||= data.toString().includes(stallsFirstAt);
        if (!isStalled) upstream.write(data);
      });
    }
    upstream.pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    freeze: () => {
      for (const socket of sockets) {
        socket.unpipe();
        socket.pause();
      }
    },
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

let redis: TestRedis;
beforeAll(async () => {
  redis = await createTestRedis();
});
afterAll(() => redis.release());

it("a half-open subscription is detected, opened again, and receives signals", async () => {
  const url = new URL(redis.url);
  const proxy = await startProxy({ host: url.hostname, port: Number(url.port || 6379) });
  const proxied = new URL(redis.url);
  proxied.hostname = "127.0.0.1";
  proxied.port = String(proxy.port);
  const producer = openProducerRedis(redis.url, silentLog);
  const publisher = new RedisSignals({
    publisher: producer,
    openSubscriber: () => openSubscriberRedis(redis.url, silentLog),
    prefix: redis.prefix,
    log: silentLog,
  });
  const subscriber = openSubscriberRedis(proxied.href, silentLog);
  const signals = new RedisSignals({
    publisher: producer,
    openSubscriber: () => subscriber,
    prefix: redis.prefix,
    log: silentLog,
    heartbeat: { intervalMs: 100, timeoutMs: 200 },
  });
  try {
    expect(await signals.listen(30_000)).toBe(true);
    await waitUntil("the producer is connected", () => producer.status === "ready");
    proxy.freeze();
    await waitUntil("the subscriber reconnects", () => proxy.connections() >= 2);
    expect(await signals.listen(30_000)).toBe(true);
    const received = signals.waitFor("events", 30_000);
    await publisher.publish(["events"]);
    expect(await received).toBe(true);
  } finally {
    signals.close();
    publisher.close();
    producer.disconnect();
    subscriber.disconnect();
    proxy.close();
  }
});

it.each([
  ["before it is ready", "*"],
  ["before it is subscribed", "subscribe"],
])("a connection that becomes half-open %s is opened again", async (_when, stallsFirstAt) => {
  const url = new URL(redis.url);
  const target = { host: url.hostname, port: Number(url.port || 6379) };
  const proxy = await startProxy(target, { stallsFirstAt });
  const proxied = new URL(redis.url);
  proxied.hostname = "127.0.0.1";
  proxied.port = String(proxy.port);
  const subscriber = openSubscriberRedis(proxied.href, silentLog);
  const signals = new RedisSignals({
    publisher: subscriber,
    openSubscriber: () => subscriber,
    prefix: redis.prefix,
    log: silentLog,
    heartbeat: { intervalMs: 100, timeoutMs: 2_000 },
  });
  try {
    expect(await signals.listen(30_000)).toBe(true);
    expect(proxy.connections()).toBeGreaterThanOrEqual(2);
  } finally {
    signals.close();
    subscriber.disconnect();
    proxy.close();
  }
});
