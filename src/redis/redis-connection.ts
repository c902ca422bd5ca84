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
  // Jitter spreads the reconnects of many processes.
  retryStrategy: (attempt) =>
    Math.min(RECONNECT_MS_MAX, 50 * 2 ** attempt) * (0.5 + Math.random() / 2),
};

/**
 * For enqueueing, publishing and streams. Commands fail immediately while Redis is unreachable
 * instead of queueing in memory: every caller has a fallback (I1).
 */
export function openProducerRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "producer", {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
  });
}

/** For one request on the edge. It accepts commands before the connection is ready. */
export function openRequestRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "request", {
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
    retryStrategy: () => null,
  });
}

/** For BullMQ job workers, which wait without a limit. */
export function openJobWorkerRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "job-worker", { maxRetriesPerRequest: null });
}

/** For pub/sub. The opener subscribes again at every `ready`. */
export function openSubscriberRedis(target: RedisTarget, log: Log): Redis {
  return open(target, log, "subscriber", { maxRetriesPerRequest: null, autoResubscribe: false });
}

/** Logs the loss and the recovery of the connection, but not each attempt. */
function open(target: RedisTarget, log: Log, role: string, options: Options): Redis {
  const redis = new Redis(target, { ...common, connectionName: `berth-${role}`, ...options });
  let isUnreachable = false;
  redis.on("error", (error: Error) => {
    if (!isUnreachable) log.warn({ err: error, role }, "Redis unreachable");
    isUnreachable = true;
  });
  redis.on("ready", () => {
    if (isUnreachable) log.info({ role }, "Redis reachable again");
    isUnreachable = false;
  });
  return redis;
}
