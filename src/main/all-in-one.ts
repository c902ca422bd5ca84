import path from "node:path";
import { type AllInOneConfig, loadAllInOneConfig } from "../config/all-in-one.ts";
import { agentSettingNames, type AgentSettings, loadAgentSettings } from "../config/host-agent.ts";
import type { Env } from "../config/parse-env.ts";
import { type DbHandle, openPostgres } from "../db/postgres/open-postgres.ts";
import { migrate, migrateEmbedded } from "../db/migrate.ts";
import { openPglite } from "../db/pglite/open-pglite.ts";
import { createToken } from "../control/tenancy/create-token.ts";
import { reencryptCredentials } from "../control/tenancy/reencrypt-credentials.ts";
import { ensureBootstrap } from "../control/tenancy/bootstrap.ts";
import { subscribeSignals, openControlPlane, startJobs } from "./compose/control-plane.ts";
import {
  type DataFolder,
  ensureAdminSecret,
  loadEncryptionKeys,
  openDataFolder,
} from "./compose/data-dir.ts";
import { startHostAgent } from "./compose/host-agent.ts";
import { createMetrics } from "./compose/metrics.ts";
import { startEmbeddedRedis } from "./compose/embedded-redis.ts";
import { startProgramStarter } from "./compose/program-starter.ts";
import { measurePhases } from "./compose/measure-phases.ts";
import { type ProcessContext, runProcess } from "./compose/run-process.ts";
import { toKeyring } from "./compose/to-keyring.ts";
import { toControlSettings } from "./compose/to-control-settings.ts";
import { createApiApp, serveHttp, toServeOptions } from "./compose/serve-http.ts";

/**
 * Runs API, job worker and host agent in one process, for one machine and for a first try. By
 * default it uses PGlite in the data folder and a private redis-server. It migrates and bootstraps
 * the database automatically.
 */
await runProcess("all-in-one", loadConfig, async ({ agent, ...config }, context) => {
  const { shutdown } = context;
  const phases = measurePhases();
  phases.end("code");
  const folder = await openDataFolder(config.BERTH_DATA_DIR);
  shutdown.add("data folder", () => folder.release());
  if (config.BERTH_AGENT_ENABLED) {
    const starter = startProgramStarter(context.log);
    shutdown.add("programs of the agent", () => starter.stop());
  }
  const redis = {
    redisTarget: await openRedisTarget(config, folder, context),
    redisPrefix: config.BERTH_REDIS_PREFIX,
  };
  phases.end("redis");
  const database = await openDatabase(config, folder);
  phases.end("database");
  const keys = await loadEncryptionKeys(folder, config.BERTH_ENCRYPTION_KEYS);
  const plane = await openControlPlane(
    {
      database,
      ...redis,
      settings: toControlSettings(config),
      keyring: toKeyring(keys),
    },
    context,
  );
  await subscribeSignals(plane, context);
  const adminSecret = await ensureAdminSecret(folder, config.BERTH_ADMIN_TOKEN?.reveal());
  await ensureBootstrap(plane.ctx, { adminSecret });
  await reencryptCredentials(plane.ctx);
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
  const app = createApiApp(plane, metrics, context.version);
  const apiUrl = await serveHttp(
    app,
    toServeOptions(config),
    () => {
      app.endStreams();
      plane.signals.close();
    },
    context,
  );
  await folder.announce(apiUrl);
  phases.end("api");
  const { durationsMs: startMs } = phases;
  const ready = { apiUrl, adminTokenFile: folder.adminTokenFile, startMs };
  if (!config.BERTH_AGENT_ENABLED) return ready;
  const { hostId } = await startHostAgent(
    {
      settings: agent,
      apiUrl,
      enrollToken: async () => {
        const body = { name: "this-machine", role: "enroll" as const, expiresInSeconds: 3_600 };
        return (await createToken(plane.ctx, { tokenId: "tok_all-in-one" }, body)).secret;
      },
      shutdownTimeoutMs: config.BERTH_SHUTDOWN_TIMEOUT_MS,
    },
    context,
  );
  phases.end("enroll");
  return { ...ready, hostId };
});

/** The agent's state is in the data folder by default. */
function loadConfig(env: Env): AllInOneConfig & { agent: AgentSettings } {
  const config = loadAllInOneConfig(env, [
    ...agentSettingNames,
    ...agentSettingNames.map((name) => `${name}_FILE`),
  ]);
  const dataDir = env["BERTH_AGENT_DATA_DIR"] || path.join(config.BERTH_DATA_DIR, "agent");
  return { ...config, agent: loadAgentSettings({ ...env, BERTH_AGENT_DATA_DIR: dataDir }) };
}

async function openRedisTarget(
  config: AllInOneConfig,
  folder: DataFolder,
  context: ProcessContext,
): Promise<string> {
  if (config.REDIS_URL) return config.REDIS_URL.reveal();
  const redis = await startEmbeddedRedis(folder.path, context.log);
  context.shutdown.add("embedded redis", () => redis.stop());
  return redis.target;
}

/** Opens the database with this build's schema. */
async function openDatabase(config: AllInOneConfig, folder: DataFolder): Promise<DbHandle> {
  if (config.DATABASE_URL) {
    const databaseUrl = config.DATABASE_URL.reveal();
    await migrate(databaseUrl);
    return openPostgres({
      databaseUrl,
      applicationName: "berth-all-in-one",
      connectionsMax: config.BERTH_DATABASE_CONNECTIONS_MAX,
      statementTimeoutMs: config.BERTH_STATEMENT_TIMEOUT_MS,
    });
  }
  const handle = await openPglite(folder.databaseDir);
  await migrateEmbedded(handle);
  return handle;
}
