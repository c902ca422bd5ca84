import { z } from "zod";
import { backendSettings, fleetSettings, processSettings, wholeNumber } from "./common-settings.ts";
import { type Env, parseEnv } from "./parse-env.ts";

const schema = z.object({
  ...processSettings,
  ...backendSettings,
  ...fleetSettings,
  /**
   * Address for probes and Prometheus: /healthz, /readyz and /metrics. Without a port they are not
   * served.
   */
  BERTH_HEALTH_HOST: z.string().min(1).max(255).default("127.0.0.1"),
  BERTH_HEALTH_PORT: wholeNumber(0, 65_535).optional(),
});

export type JobWorkerConfig = Readonly<z.output<typeof schema>>;

/**
 * Reads only `env` and the files that `*_FILE` name. Throws ConfigError that lists all problems.
 */
export function loadJobWorkerConfig(env: Env): JobWorkerConfig {
  return Object.freeze(parseEnv(schema, env));
}
