import { type EdgeConfig, loadEdgeConfig } from "../config/edge.ts";
import { openPostgres } from "../db/postgres/open-postgres.ts";
import { BullmqJobQueue } from "../jobs/queue/bullmq-job-queue.ts";
import { openJobQueues } from "../jobs/queue/job-queues.ts";
import { openRequestRedis, openSubscriberRedis } from "../redis/redis-connection.ts";
import { RedisSignals } from "../redis/signals.ts";
import { RedisStreamRelay } from "../redis/log-stream-relay.ts";
import { RedisSessionDirectory } from "../redis/session-directory.ts";
import { SessionRelay } from "../control/session-relay/session-relay.ts";
import { jobRegistry } from "../jobs/registry.ts";
import { createConcurrencyLimit } from "../lib/async/concurrency-limit.ts";
import type { Log } from "../lib/log.ts";
import { createApp } from "../routes/app.ts";
import type { ControlContext } from "../control/runtime/context.ts";
import { CallerTokenCache } from "../control/tenancy/token-cache.ts";
import { createEdgeLog } from "./compose/edge-log.ts";
import { toKeyring } from "./compose/to-keyring.ts";
import { toControlSettings } from "./compose/to-control-settings.ts";
import { ServiceBatches } from "../control/services/service-batches.ts";

/** Cloudflare's execution context; `waitUntil` continues work after the response. */
interface EdgeExecution {
  waitUntil(work: Promise<unknown>): void;
  passThroughOnException(): void;
}

/** Includes the connection for the first job or signal of a request. */
const ENQUEUE_TIMEOUT_MS = 2_000;

/**
 * The Hono app on Cloudflare Workers. Sockets there belong to the request that opened them, so each
 * request opens its own connections. It connects to Postgres at its first query, and to Redis at
 * its first job, signal or wait. It closes both after its response. It serves neither the queue
 * dashboard, nor the metrics of a process, nor host agents and dry runs.
 *
 * Bindings: see src/config/edge.ts. Other processes (`migrate`, `api`, `all-in-one`) migrate and
 * bootstrap the database.
 */
async function serveRequest(
  request: Request,
  bindings: Readonly<Record<string, unknown>>,
  execution: EdgeExecution,
): Promise<Response> {
  const config = loadEdgeConfig(bindings);
  const log = createEdgeLog(config.BERTH_LOG_LEVEL, { service: "edge" });
  const { ctx, close } = openRequest(config, log);
  try {
    const app = createApp(ctx, { version: config.BERTH_VERSION, isEdge: true });
    const response = await app.fetch(request, bindings, { ...toExecution(execution), props: {} });
    if (response.body === null) {
      execution.waitUntil(close());
      return response;
    }
    // Closed after the last byte of the response, or when its reader disconnects, because a stream
    // continues to read.
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    execution.waitUntil(
      response.body.pipeTo(writable).then(close, close), // a disconnected reader is not an error
    );
    return new Response(readable, response);
  } catch (error) {
    execution.waitUntil(close());
    throw error;
  }
}

function openRequest(
  config: EdgeConfig,
  log: Log,
): { ctx: ControlContext; close: () => Promise<void> } {
  const database = openPostgres({
    databaseUrl: config.DATABASE_URL.reveal(),
    applicationName: "berth-edge",
    connectionsMax: 1,
    statementTimeoutMs: config.BERTH_STATEMENT_TIMEOUT_MS,
  });
  const target = config.REDIS_URL.reveal();
  const prefix = config.BERTH_REDIS_PREFIX;
  const redis = openRequestRedis(target, log);
  const connections = [redis];
  const signals = new RedisSignals({
    publisher: redis,
    openSubscriber: () => {
      const subscriber = openSubscriberRedis(target, log);
      connections.push(subscriber);
      return subscriber;
    },
    prefix,
    log,
  });
  const queues = openJobQueues(redis, prefix, log);
  const jobQueue = new BullmqJobQueue({
    queues,
    registry: jobRegistry,
    log,
    enqueueTimeoutMs: ENQUEUE_TIMEOUT_MS,
  });
  const ctx: ControlContext = {
    db: database.db,
    jobQueue,
    signals,
    streams: new RedisStreamRelay(redis, prefix),
    sessions: new SessionRelay({
      directory: new RedisSessionDirectory(redis, prefix),
      dialOwner: () => Promise.reject(new Error("a Worker has no sessions")),
    }),
    tokenCache: new CallerTokenCache(),
    reportWriteLimit: createConcurrencyLimit(1),
    hostAnswerLimit: createConcurrencyLimit(1),
    fullAnswerLimit: createConcurrencyLimit(1),
    serviceInserter: new ServiceBatches(database.db),
    keyring: toKeyring(config.BERTH_ENCRYPTION_KEYS),
    log,
    settings: toControlSettings(config),
  };
  const close = async (): Promise<void> => {
    signals.close();
    await queues.close();
    for (const connection of connections) connection.disconnect();
    await database.close();
  };
  return { ctx, close };
}

function toExecution(execution: EdgeExecution): EdgeExecution {
  return {
    waitUntil: (work) => execution.waitUntil(work),
    passThroughOnException: () => execution.passThroughOnException(),
  };
}

// oxlint-disable-next-line import/no-default-export -- the platform calls the default export
export default { fetch: serveRequest };
