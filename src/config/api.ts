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
});

export type ApiConfig = Readonly<z.output<typeof schema>>;

/**
 * Reads only `env` and the files that `*_FILE` name. Throws ConfigError that lists all problems.
 */
export function loadApiConfig(env: Env): ApiConfig {
  return Object.freeze(parseEnv(schema, env));
}
