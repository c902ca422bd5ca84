import { z } from "zod";
import {
  backendSettings,
  fleetSettings,
  listenSettings,
  processSettings,
} from "./common-settings.ts";
import { type Env, parseEnv } from "./parse-env.ts";

const schema = z.object({
  ...processSettings,
  ...backendSettings,
  ...fleetSettings,
  ...listenSettings,
  /** Default: PGlite in the data folder. */
  DATABASE_URL: backendSettings.DATABASE_URL.optional(),
  /** Default: a redis-server that this process starts. */
  REDIS_URL: backendSettings.REDIS_URL.optional(),
  /** The folder of the database, the admin token, and the agent's state. */
  BERTH_DATA_DIR: z.string().min(1).max(1_000).default(".berth"),
  /** Enroll this machine as a host, and run its agent. */
  BERTH_AGENT_ENABLED: z.stringbool().default(true),
});

export type AllInOneConfig = Readonly<z.output<typeof schema>>;

/**
 * Reads only `env` and the files that `*_FILE` name. Throws ConfigError that lists all problems.
 * @param agentNames variables that the agent in this process checks
 */
export function loadAllInOneConfig(env: Env, agentNames: readonly string[] = []): AllInOneConfig {
  return Object.freeze(parseEnv(schema, env, agentNames));
}
