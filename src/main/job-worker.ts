import { loadJobWorkerConfig } from "../config/job-worker.ts";
import { openPostgres } from "../db/postgres/open-postgres.ts";
import { openControlPlane, startJobs } from "./compose/control-plane.ts";
import { createMetrics } from "./compose/metrics.ts";
import { runProcess } from "./compose/run-process.ts";
import { toControlSettings } from "./compose/to-control-settings.ts";
import { createHealthApp, serveHttp } from "./compose/serve-http.ts";

/** Runs jobs and sweeps. Any number of these processes may run, on any machines. */
await runProcess("job-worker", loadJobWorkerConfig, async (config, context) => {
  const database = openPostgres({
    databaseUrl: config.DATABASE_URL.reveal(),
    applicationName: "berth-job-worker",
    connectionsMax: config.BERTH_DATABASE_CONNECTIONS_MAX,
    statementTimeoutMs: config.BERTH_STATEMENT_TIMEOUT_MS,
  });
  const redis = {
    redisTarget: config.REDIS_URL.reveal(),
    redisPrefix: config.BERTH_REDIS_PREFIX,
  };
  const plane = await openControlPlane(
    { database, ...redis, settings: toControlSettings(config) },
    context,
  );
  const metrics = createMetrics(plane);
  startJobs(
    plane,
    {
      ...redis,
      shutdownTimeoutMs: config.BERTH_SHUTDOWN_TIMEOUT_MS,
      onAttempt: (attempt) => metrics.observeAttempt(attempt),
      onSweep: (run) => metrics.observeSweep(run),
    },
    context,
  );
  if (config.BERTH_HEALTH_PORT === undefined) return {};
  const healthUrl = await serveHttp(
    createHealthApp(plane.ctx, metrics, context.version),
    { host: config.BERTH_HEALTH_HOST, port: config.BERTH_HEALTH_PORT },
    () => undefined,
    context,
  );
  return { healthUrl };
});
