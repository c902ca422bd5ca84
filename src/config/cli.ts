import { z } from "zod";

/**
 * The environment of the command line. It ignores other BERTH_* variables: `berth up` and `berth
 * agent` pass them to their processes, which check them.
 */
const cliEnvironment = z.object({
  BERTH_API_URL: z.url({ protocol: /^https?$/ }).optional(),
  BERTH_TOKEN: z.string().min(1).max(512).optional(),
  BERTH_TOKEN_FILE: z.string().min(1).optional(),
  BERTH_TENANT: z.string().min(1).max(63).optional(),
  BERTH_CONTEXT: z.string().min(1).optional(),
  /** The file of contexts; default ~/.config/berth/config.json. */
  BERTH_CONFIG: z.string().min(1).optional(),
  BERTH_DATA_DIR: z.string().min(1).default(".berth"),
  XDG_CONFIG_HOME: z.string().min(1).optional(),
  HOME: z.string().min(1).optional(),
  /** Any non-empty value disables colors: see https://no-color.org. */
  NO_COLOR: z.string().optional(),
});

export interface CliConfig {
  readonly apiUrl: string | undefined;
  readonly token: string | undefined;
  readonly tokenFile: string | undefined;
  readonly tenant: string | undefined;
  readonly context: string | undefined;
  readonly configFile: string;
  readonly dataDir: string;
  readonly colorAllowed: boolean;
}

/** Pure. Throws z.ZodError with all problems at once. It names variables, never values. */
export function loadCliConfig(env: Record<string, string | undefined>): CliConfig {
  // An empty variable counts as unset: shells and unit files leave such variables.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const parsed = cliEnvironment.parse(given);
  const configHome = parsed.XDG_CONFIG_HOME ?? `${parsed.HOME ?? "."}/.config`;
  return Object.freeze({
    apiUrl: parsed.BERTH_API_URL,
    token: parsed.BERTH_TOKEN,
    tokenFile: parsed.BERTH_TOKEN_FILE,
    tenant: parsed.BERTH_TENANT,
    context: parsed.BERTH_CONTEXT,
    configFile: parsed.BERTH_CONFIG ?? `${configHome}/berth/config.json`,
    dataDir: parsed.BERTH_DATA_DIR,
    colorAllowed: parsed.NO_COLOR === undefined,
  });
}
