import type { Redis } from "ioredis";
import { queueNames } from "../../contracts/jobs.ts";
import type { DbHandle } from "../../db/postgres/open-postgres.ts";
import { assertSchemaCompatible } from "../../db/migrate.ts";
import { BullmqJobQueue } from "../../jobs/queue/bullmq-job-queue.ts";
import { type JobQueues, openJobQueues } from "../../jobs/queue/job-queues.ts";
import { type JobAttempt, startJobRunner } from "../../jobs/queue/job-runner.ts";
import {
  openJobWorkerRedis,
  openProducerRedis,
  openSubscriberRedis,
  type RedisTarget,
} from "../../redis/redis-connection.ts";
import { RedisSignals } from "../../redis/signals.ts";
import { RedisStreamRelay } from "../../redis/log-stream-relay.ts";
import { RedisSessionDirectory } from "../../redis/session-directory.ts";
import { jobRegistry } from "../../jobs/registry.ts";
import { startSweeps } from "../../jobs/sweeps/start-sweeps.ts";
import type { SweepRun } from "../../jobs/sweeps/repeat-sweep.ts";
import { CompletedJobs } from "../../jobs/queue/completed-jobs.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import { repeatUntilStopped } from "../../lib/async/repeat-until-stopped.ts";
import type { Keyring } from "../../lib/keyring.ts";
import { withTimeout } from "../../lib/async/with-timeout.ts";
import { coalesce } from "../../lib/async/coalesce.ts";
import { bindWork } from "../../control/runtime/bind-work.ts";
import type { ControlContext, ControlSettings } from "../../control/runtime/context.ts";
import { CallerTokenCache } from "../../control/tenancy/token-cache.ts";
import { createMover } from "../../control/operations/move-sets.ts";
import { completeJobs } from "../../control/runtime/outbox.ts";
import { createPlacer } from "../../control/placement/place-pending-sets.ts";
import { SessionRelay } from "../../control/session-relay/session-relay.ts";
import { createSocketDialer } from "./dial-web-socket.ts";
import type { ProcessContext } from "./run-process.ts";
import { toInternalRequest } from "./internal-request.ts";
import { ServiceBatches } from "../../control/services/service-batches.ts";

const REDIS_START_WAIT_MS = 2_000;
/** The share of database connections that reports of sets may use concurrently. */
const REPORTS_SHARE_OF_CONNECTIONS = 0.1;
/** Hosts whose answers one process reads concurrently: more would not be faster. */
const HOST_ANSWERS_MAX = 32;
/** Full answers that one process reads concurrently: together at most about 250 MB. */
const FULL_ANSWERS_MAX = 4;
/** The share of the shutdown deadline for jobs in progress. */
const JOBS_SHARE_OF_SHUTDOWN = 0.6;
/** The share of the shutdown time in which a sweep must end its current item. */
const SWEEPS_SHARE_OF_SHUTDOWN = 0.3;
const FLEET_REFRESH_MS = 1_000;
const EXIT_HUNG = 70; // EX_SOFTWARE of sysexits.h

export interface BackendOptions {
  database: DbHandle;
  redisTarget: RedisTarget;
  redisPrefix: string;
  settings: ControlSettings;
  keyring?: Keyring | undefined;
}

/** The common parts of the API and the job worker. */
export interface ControlPlane {
  ctx: ControlContext;
  jobQueue: BullmqJobQueue;
  signals: RedisSignals;
  queues: JobQueues;
}

/**
 * Opens the control plane, and registers its shutdown. Throws if this build cannot run on the
 * schema of the database.
 */
export async function openControlPlane(
  options: BackendOptions,
  { log, shutdown }: ProcessContext,
): Promise<ControlPlane> {
  const { database, redisTarget, redisPrefix: prefix, settings, keyring } = options;
  shutdown.add("database", () => database.close());
  await assertSchemaCompatible(database.db);
  const producer = openProducerRedis(redisTarget, log);
  shutdown.add("redis", () => disconnect(producer));
  const queues = openJobQueues(producer, prefix, log);
  for (const name of queueNames) queues.get(name); // so that no request pays for the first use
  shutdown.add("queues", () => queues.close());
  const signals = new RedisSignals({
    publisher: producer,
    openSubscriber: () => {
      const subscriber = openSubscriberRedis(redisTarget, log);
      shutdown.add("subscriber", () => disconnect(subscriber));
      return subscriber;
    },
    prefix,
    log,
  });
  const jobQueue = new BullmqJobQueue({
    queues,
    registry: jobRegistry,
    log,
  });
  const streams = new RedisStreamRelay(producer, prefix);
  const sessions = createSessionRelay(producer, prefix);
  const reportWriteLimit = createConcurrencyLimit(
    Math.max(1, Math.floor(database.connectionsMax * REPORTS_SHARE_OF_CONNECTIONS)),
  );
  const ctx: ControlContext = {
    db: database.db,
    jobQueue,
    signals,
    streams,
    sessions,
    tokenCache: new CallerTokenCache(),
    reportWriteLimit,
    hostAnswerLimit: createConcurrencyLimit(HOST_ANSWERS_MAX),
    fullAnswerLimit: createConcurrencyLimit(FULL_ANSWERS_MAX),
    serviceInserter: new ServiceBatches(database.db),
    keyring,
    log,
    settings,
  };
  return { ctx, jobQueue, signals, queues };
}

function createSessionRelay(redis: Redis, prefix: string): SessionRelay {
  const dial = createSocketDialer();
  return new SessionRelay({
    directory: new RedisSessionDirectory(redis, prefix),
    dialOwner: (owner, session) => {
      const { url, headers } = toInternalRequest(owner, session);
      return dial(url, { headers });
    },
  });
}

/**
 * Subscribes to signals, for processes with waits. The start continues without Redis, which is only
 * a trigger.
 */
export async function subscribeSignals(
  { signals }: ControlPlane,
  { log }: ProcessContext,
): Promise<void> {
  if (!(await signals.listen(REDIS_START_WAIT_MS)))
    log.warn({}, "redis unreachable, starting without it");
}

export interface JobsOptions extends Pick<BackendOptions, "redisTarget" | "redisPrefix"> {
  shutdownTimeoutMs: number;
  onAttempt?: (attempt: JobAttempt) => void;
  onSweep?: (run: SweepRun) => void;
}

/** Runs jobs and sweeps in this process until its shutdown. */
export function startJobs(
  { ctx, jobQueue }: ControlPlane,
  options: JobsOptions,
  context: ProcessContext,
): void {
  const { log, shutdown } = context;
  const endHung = (): void => context.stop(EXIT_HUNG);
  const placer = createPlacer(bindWork(ctx, { kind: "placement" }), {
    onHung: () => {
      log.error({}, "placement hangs; the process ends");
      endHung();
    },
  });
  const refresh = repeatUntilStopped(
    () => placer.refreshFleet(),
    FLEET_REFRESH_MS,
    (error) => log.warn({ err: error }, "cannot refresh the fleet"),
  );
  shutdown.add("fleet refresh", () => refresh.stop());
  const mover = createMover(ctx);
  const deps = {
    ctx,
    placeSets: coalesce(() => placer.placeSets()),
    moveSets: coalesce((signal) => mover.moveSets(signal)),
  };
  const redis = openJobWorkerRedis(options.redisTarget, log);
  shutdown.add("job worker's redis", () => disconnect(redis));
  const completed = new CompletedJobs({ deleteOutbox: (ids) => completeJobs(ctx, ids), log });
  shutdown.add("completed jobs", () => completed.flush());
  const runner = startJobRunner({
    redis,
    prefix: options.redisPrefix,
    registry: jobRegistry,
    deps,
    completed,
    ...(options.onAttempt ? { onAttempt: options.onAttempt } : {}),
  });
  shutdown.add("jobs", () => runner.close(options.shutdownTimeoutMs * JOBS_SHARE_OF_SHUTDOWN));
  const sweeps = startSweeps({
    ...deps,
    jobQueue,
    registry: jobRegistry,
    onHung: endHung,
    ...(options.onSweep ? { onSweep: options.onSweep } : {}),
  });
  shutdown.add("sweeps", async () => {
    const timeoutMs = options.shutdownTimeoutMs * SWEEPS_SHARE_OF_SHUTDOWN;
    const isStopped = await withTimeout(
      sweeps.stop().then(() => true),
      timeoutMs,
      false,
    );
    if (!isStopped) log.warn({ timeoutMs }, "a sweep did not end its item in time");
  });
}

/** Sends pending commands and disconnects in order, if Redis is reachable. */
async function disconnect(redis: Redis): Promise<void> {
  if (redis.status === "ready") await redis.quit().catch(() => undefined);
  redis.disconnect();
}
