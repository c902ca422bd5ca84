import { Redis, type RedisOptions } from "ioredis";
import type { Log } from "../lib/log.ts";

/** A redis:// or rediss:// URL, or the path of a Unix socket. */
export type RedisTarget = string;

const COMMAND_TIMEOUT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 3_000;
const RECONNECT_MS_MAX = 1_000;

type Options = Omit<RedisOptions, "replyMapping">;

const common: Options = {
  connectTimeout: CONNECT_TIMEOUT_MS,
  keepAlive: 10_000,
  // Jitter, so that the processes of a large installation do not all come back in the same millisecond.
  retryStrategy: (attempt) =>
    Math.min(RECONNECT_MS_MAX, 50 * 2 ** attempt) * (0.5 + Math.random() / 2),
};

/**
 * For ringing, publishing and streams. Fails at once when Redis is away instead of queueing commands in memory: whoever
 * calls has another way (I1), and would rather know.
 */
export function openProducerRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "producer", {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
  });
}

/** The same for one request on the edge, which begins to talk before the connection stands. */
export function openRequestRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "request", {
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
    retryStrategy: () => null,
  });
}

/** For BullMQ's job workers, which wait for as long as it takes. */
export function openJobWorkerRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "job-worker", { maxRetriesPerRequest: null });
}

/** For pub/sub: whoever opens it subscribes anew at every `ready`. */
export function openSubscriberRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "subscriber", { maxRetriesPerRequest: null, autoResubscribe: false });
}

/** One line when it goes away and one when it is back, not one per attempt. */
function open(target: RedisTarget, log: Log, role: string, options: Options): Redis {
  const redis = new Redis(target, { ...common, connectionName: `berth-${role}`, ...options });
  let isAway = false;
  redis.on("error", (error: Error) => {
    if (!isAway) log.warn({ err: error, role }, "redis is away");
    isAway = true;
  });
  redis.on("ready", () => {
    if (isAway) log.info({ role }, "redis is back");
    isAway = false;
  });
  return redis;
}
