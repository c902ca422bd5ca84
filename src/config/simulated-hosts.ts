import { z } from "zod";
import { processSettings, secretText, wholeNumber } from "./common-settings.ts";
import { type Env, parseEnv } from "./parse-env.ts";

const schema = z.object({
  BERTH_LOG_LEVEL: processSettings.BERTH_LOG_LEVEL.default("warn"),
  BERTH_API_URL: z.url({ protocol: /^https?$/, error: "expected an http:// or https:// URL" }),
  /** An admin's token, because each host needs an enroll token of its own. */
  BERTH_TOKEN: secretText,
  BERTH_AGENT_USAGE_INTERVAL_MS: wholeNumber(1_000, 60_000).default(30_000),
});

export type SimulatedHostsConfig = Readonly<z.output<typeof schema>>;

/**
 * Reads only `env` and the files that `*_FILE` name. Throws ConfigError that lists all problems.
 */
export function loadSimulatedHostsConfig(env: Env): SimulatedHostsConfig {
  return Object.freeze(parseEnv(schema, env));
}
