import { z } from "zod";
import { backendSettings, fleetSettings } from "./common-settings.ts";
import { parseEnv } from "./parse-env.ts";

const schema = z.object({
  DATABASE_URL: backendSettings.DATABASE_URL,
  REDIS_URL: backendSettings.REDIS_URL,
  BERTH_REDIS_PREFIX: backendSettings.BERTH_REDIS_PREFIX,
  BERTH_STATEMENT_TIMEOUT_MS: backendSettings.BERTH_STATEMENT_TIMEOUT_MS,
  ...fleetSettings,
  BERTH_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  /** The version in the API's description. */
  BERTH_VERSION: z.string().max(64).default("0.0.0"),
});

export type EdgeConfig = Readonly<z.output<typeof schema>>;

/** Ignores bindings that are not text. Throws ConfigError that lists all problems. */
export function loadEdgeConfig(bindings: Readonly<Record<string, unknown>>): EdgeConfig {
  const texts = Object.entries(bindings).filter((entry): entry is [string, string] => {
    return typeof entry[1] === "string";
  });
  return Object.freeze(parseEnv(schema, Object.fromEntries(texts)));
}
