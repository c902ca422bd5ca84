import { type EdgeConfig, loadEdgeConfig } from "../config/edge.ts";
import { openPostgres } from "../db/postgres/open-postgres.ts";
import { BullmqJobQueue } from "../jobs/queue/bullmq-job-queue.ts";
import { openJobQueues } from "../jobs/queue/job-queues.ts";
import { openRequestRedis, openSubscriberRedis } from "../redis/redis-connection.ts";
import { RedisSignals } from "../redis/signals.ts";
import { RedisStreamRelay } from "../redis/log-stream-relay.ts";
import { jobRegistry } from "../jobs/registry.ts";
import { createConcurrencyLimit } from "../lib/async/concurrency-limit.ts";
import type { Log } from "../lib/log.ts";
import { createApp } from "../routes/app.ts";
import type { ControlContext } from "../control/runtime/context.ts";
import { CallerTokenCache } from "../control/tenancy/token-cache.ts";
import { createEdgeLog } from "./compose/edge-log.ts";
import { serviceSettingsOf } from "./compose/control-settings.ts";

/** What Cloudflare gives besides the request; `waitUntil` keeps things going after the answer. */
interface EdgeExecution {
  waitUntil(work: Promise<unknown>): void;
  passThroughOnException(): void;
}

/** Connecting is part of the first ring and the first signal of a request. */
const RING_TIMEOUT_MS = 2_000;

/**
 * The same Hono app on Cloudflare Workers. Sockets there belong to the request that opened them: so each request opens its
 * own connections, Postgres's when it first asks something and Redis's when it first rings, signals or waits, and closes
 * them when its answer is written. The queue dashboard and the metrics of a process are not served here.
 *
 * Bindings: see src/config/edge.ts. Migrations and bootstrap are done by others (`migrate`, `api`, `all-in-one`).
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
    const app = createApp(ctx, { version: config.BERTH_VERSION });
    const response = await app.fetch(request, bindings, { ...executionOf(execution), props: {} });
    if (response.body === null) {
      execution.waitUntil(close());
      return response;
    }
    // Closed when the whole answer is out, or its reader gone: a stream goes on reading.
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    execution.waitUntil(
      response.body.pipeTo(writable).then(close, close), // a reader that left is no error
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
    enqueueTimeoutMs: RING_TIMEOUT_MS,
  });
  const ctx: ControlContext = {
    db: database.db,
    jobQueue,
    signals,
    streams: new RedisStreamRelay(redis, prefix),
    tokenCache: new CallerTokenCache(),
    reportWriteLimit: createConcurrencyLimit(1),
    log,
    settings: serviceSettingsOf(config),
  };
  const close = async (): Promise<void> => {
    signals.close();
    await queues.close();
    for (const connection of connections) connection.disconnect();
    await database.close();
  };
  return { ctx, close };
}

function executionOf(execution: EdgeExecution): EdgeExecution {
  return {
    waitUntil: (work) => execution.waitUntil(work),
    passThroughOnException: () => execution.passThroughOnException(),
  };
}

// oxlint-disable-next-line import/no-default-export -- the platform calls the default export
export default { fetch: serveRequest };
