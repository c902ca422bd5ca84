import { z } from "zod";
import { wholeNumber } from "./common-settings.ts";
import { dockerSocketSettings } from "./host-agent.ts";
import { type Env, parseEnv } from "./parse-env.ts";

const schema = z.object({
  ...dockerSocketSettings,
  /**
   * At a shutdown of the machine, all sets have this long to stop in order. A longer time needs a
   * longer `TimeoutStopSec` of the unit.
   */
  BERTH_SETS_STOP_TIMEOUT_MS: wholeNumber(1_000, 3_600_000).default(110_000),
});

export type StopSetsConfig = Readonly<z.output<typeof schema>>;

/**
 * Throws ConfigError. Ignores other variables, because the unit also reads the file of the agent,
 * whose mistakes must not prevent an ordered stop.
 */
export function loadStopSetsConfig(env: Env): StopSetsConfig {
  const names = Object.keys(schema.shape).flatMap((name) => [name, `${name}_FILE`]);
  const own = Object.fromEntries(names.map((name) => [name, env[name]]));
  return Object.freeze(parseEnv(schema, own));
}
