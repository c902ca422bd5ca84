import { z } from "zod";
import { backendSettings } from "./common-settings.ts";
import { type Env, parseEnv } from "./parse-env.ts";

const schema = z.object({ DATABASE_URL: backendSettings.DATABASE_URL });

export type MigrateConfig = Readonly<z.output<typeof schema>>;

/**
 * Throws ConfigError. Ignores other variables, because a migration often runs in the environment of
 * the process that follows it.
 */
export function loadMigrateConfig(env: Env): MigrateConfig {
  const own = { DATABASE_URL: env["DATABASE_URL"], DATABASE_URL_FILE: env["DATABASE_URL_FILE"] };
  return Object.freeze(parseEnv(schema, own));
}
