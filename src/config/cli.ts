import { ConfigError } from "./config-error.ts";

/** The environment of the command line, without the empty variables that unit files set. */
type CliEnvironment = Readonly<Record<string, string | undefined>>;

export interface CliConfig {
  readonly apiUrl: string | undefined;
  readonly token: string | undefined;
  readonly tokenFile: string | undefined;
  readonly tenant: string | undefined;
  readonly context: string | undefined;
  /** The file of contexts. */
  readonly configFile: string;
  readonly dataDir: string;
  readonly colorAllowed: boolean;
}

const TOKEN_LENGTH_MAX = 512;
const TENANT_LENGTH_MAX = 63;

/**
 * The settings of the command line. It ignores other BERTH_* variables: `berth up` and `berth
 * agent` pass them to their processes, which check them. An empty variable counts as unset.
 *
 * Pure. Throws ConfigError that lists all problems. It does not use zod, because loading zod takes
 * longer than all other work of a short command.
 */
export function loadCliConfig(environment: CliEnvironment): CliConfig {
  const read = (name: string): string | undefined => environment[name] || undefined;
  const apiUrl = read("BERTH_API_URL");
  const token = read("BERTH_TOKEN");
  const tenant = read("BERTH_TENANT");
  const problems = [
    apiUrl !== undefined && !isHttpUrl(apiUrl) && "BERTH_API_URL must be an http or https URL",
    isLonger(token, TOKEN_LENGTH_MAX) && lengthProblem("BERTH_TOKEN", TOKEN_LENGTH_MAX),
    isLonger(tenant, TENANT_LENGTH_MAX) && lengthProblem("BERTH_TENANT", TENANT_LENGTH_MAX),
  ].filter((problem) => problem !== false);
  if (problems.length > 0)
    throw new ConfigError(problems.map((problem) => `✖ ${problem}`).join("\n"));
  const configHome = read("XDG_CONFIG_HOME") ?? `${read("HOME") ?? "."}/.config`;
  return Object.freeze({
    apiUrl,
    token,
    tokenFile: read("BERTH_TOKEN_FILE"),
    tenant,
    context: read("BERTH_CONTEXT"),
    configFile: read("BERTH_CONFIG") ?? `${configHome}/berth/config.json`,
    dataDir: read("BERTH_DATA_DIR") ?? ".berth",
    colorAllowed: read("NO_COLOR") === undefined, // https://no-color.org
  });
}

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

function isLonger(text: string | undefined, lengthMax: number): boolean {
  return text !== undefined && text.length > lengthMax;
}

function lengthProblem(name: string, lengthMax: number): string {
  return `${name} must have at most ${lengthMax} characters`;
}
