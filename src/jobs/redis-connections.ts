import { Redis } from "ioredis";

/** For whoever puts things into Redis on behalf of a request: fails at once when Redis is away, and never queues. */
export function openProducerRedis(redisUrl: string): Redis {
  const redis = new Redis(redisUrl, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: 1_000,
    connectTimeout: 2_000,
    retryStrategy: reconnectDelayMs,
  });
  redis.on("error", () => undefined); // each command that fails says so to its caller
  return redis;
}

/** For BullMQ's job workers and for subscribers, which wait for Redis to come back instead of failing. */
export function openBlockingRedis(redisUrl: string): Redis {
  const redis = new Redis(redisUrl, {
    maxRetriesPerRequest: null,
    retryStrategy: reconnectDelayMs,
  });
  redis.on("error", () => undefined);
  return redis;
}

/** 50 ms doubling to 2 s: reconnecting goes on for as long as the process does. */
function reconnectDelayMs(attempt: number): number {
  return Math.min(2_000, 50 * 2 ** Math.min(attempt, 6));
}

/** Resolves when connected, or after `timeoutMs` all the same: a start does not hang on a Redis that is away. */
export async function waitConnected(redis: Redis, timeoutMs: number): Promise<void> {
  if (redis.status === "ready") return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, timeoutMs);
    function done() {
      clearTimeout(timer);
      redis.off("ready", done);
      resolve();
    }
    redis.once("ready", done);
  });
}

/** Closes without waiting for a Redis that is away. */
export async function closeRedis(redis: Redis): Promise<void> {
  if (redis.status === "ready") await redis.quit().catch(() => undefined);
  redis.disconnect();
}
