import { loadApiConfig } from "../config/api.ts";
import { openPostgres } from "../db/postgres/open-postgres.ts";
import { reencryptCredentials } from "../control/tenancy/reencrypt-credentials.ts";
import { ensureBootstrap } from "../control/tenancy/bootstrap.ts";
import { subscribeSignals, openControlPlane } from "./compose/control-plane.ts";
import { createMetrics } from "./compose/metrics.ts";
import { runProcess } from "./compose/run-process.ts";
import { toKeyring } from "./compose/to-keyring.ts";
import { toControlSettings } from "./compose/to-control-settings.ts";
import { createApiApp, serveHttp, toServeOptions } from "./compose/serve-http.ts";

/** The API: the Hono app on Node, with the queue dashboard. */
await runProcess("api", loadApiConfig, async (config, context) => {
  const database = openPostgres({
    databaseUrl: config.DATABASE_URL.reveal(),
    applicationName: "berth-api",
    connectionsMax: config.BERTH_DATABASE_CONNECTIONS_MAX,
    statementTimeoutMs: config.BERTH_STATEMENT_TIMEOUT_MS,
  });
  const plane = await openControlPlane(
    {
      database,
      redisTarget: config.REDIS_URL.reveal(),
      redisPrefix: config.BERTH_REDIS_PREFIX,
      settings: toControlSettings(config),
      keyring: toKeyring(config.BERTH_ENCRYPTION_KEYS),
    },
    context,
  );
  await subscribeSignals(plane, context);
  const { adminSecret } = await ensureBootstrap(plane.ctx, {
    adminSecret: config.BERTH_ADMIN_TOKEN?.reveal(),
  });
  await reencryptCredentials(plane.ctx);
  // Not through the log, which is stored: the token is shown only here.
  if (adminSecret !== undefined) {
    process.stderr.write(
      `admin token, shown once, valid for 24 hours: ${adminSecret}\nCreate a permanent one: berth token create NAME --role admin\n`,
    );
  }
  const metrics = createMetrics(plane);
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
  return { apiUrl };
});
