import { type AllInOneConfig, loadAllInOneConfig } from "../config/all-in-one.ts";
import { type DbHandle, openPostgres } from "../db/client.ts";
import { migrate, migrateEmbedded } from "../db/migrate.ts";
import { openPglite } from "../db/pglite.ts";
import { ensureBootstrap } from "../services/ensure-bootstrap.ts";
import { hearSignals, openControlPlane, startJobs } from "./parts/control-plane.ts";
import { type DataFolder, keepAdminSecret, openDataFolder } from "./parts/data-folder.ts";
import { createMetrics } from "./parts/metrics.ts";
import { startPrivateRedis } from "./parts/private-redis.ts";
import { type Running, runProcess } from "./parts/run-process.ts";
import { serviceSettingsOf } from "./parts/service-settings.ts";
import { createApiApp, serveHttp } from "./parts/serve-http.ts";

/**
 * API, job worker and host agent in one process, for one machine and for trying Berth out. What is not given it brings:
 * PGlite in the data folder, and a redis-server of its own. It migrates and bootstraps by itself.
 */
await runProcess("all-in-one", loadAllInOneConfig, async (config, running) => {
  const { shutdown } = running;
  const folder = await openDataFolder(config.BERTH_DATA_DIR);
  shutdown.add("data folder", () => folder.release());
  const redis = {
    redisTarget: await openRedisTarget(config, folder, running),
    redisPrefix: config.BERTH_REDIS_PREFIX,
  };
  const database = await openDatabase(config, folder);
  const plane = await openControlPlane(
    { database, ...redis, settings: serviceSettingsOf(config) },
    running,
  );
  await hearSignals(plane, running);
  const adminSecret = await keepAdminSecret(folder, config.BERTH_ADMIN_TOKEN?.reveal());
  await ensureBootstrap(plane.ctx, { adminSecret });
  const metrics = createMetrics({
    queues: plane.queues,
    countWaiting: () => plane.signals.waiting,
  });
  startJobs(
    plane,
    {
      ...redis,
      shutdownTimeoutMs: config.BERTH_SHUTDOWN_TIMEOUT_MS,
      onAttempt: (attempt) => metrics.observeAttempt(attempt),
    },
    running,
  );
  const apiUrl = await serveHttp(
    createApiApp(plane, metrics, running.version),
    { host: config.BERTH_HOST, port: config.BERTH_PORT },
    () => plane.signals.close(),
    running,
  );
  await folder.announce(apiUrl);
  return { apiUrl, adminTokenFile: folder.adminTokenFile };
});

async function openRedisTarget(
  config: AllInOneConfig,
  folder: DataFolder,
  running: Running,
): Promise<string> {
  if (config.REDIS_URL) return config.REDIS_URL.reveal();
  const redis = await startPrivateRedis(folder.path, running.log);
  running.shutdown.add("private redis", () => redis.stop());
  return redis.target;
}

/** At this build's schema. */
async function openDatabase(config: AllInOneConfig, folder: DataFolder): Promise<DbHandle> {
  if (config.DATABASE_URL) {
    const databaseUrl = config.DATABASE_URL.reveal();
    await migrate(databaseUrl);
    return openPostgres({
      databaseUrl,
      connectionsMax: config.BERTH_DATABASE_CONNECTIONS_MAX,
      statementTimeoutMs: config.BERTH_STATEMENT_TIMEOUT_MS,
    });
  }
  const handle = await openPglite(folder.databaseDir);
  await migrateEmbedded(handle);
  return handle;
}
