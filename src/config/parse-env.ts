import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError } from "./config-error.ts";

export type Env = Readonly<Record<string, string | undefined>>;

/** Variables of the command line, which passes its environment to the processes that it starts. */
const foreignNames = new Set([
  "BERTH_API_URL",
  "BERTH_TOKEN",
  "BERTH_TOKEN_FILE",
  "BERTH_TENANT",
  "BERTH_CONTEXT",
  "BERTH_CONFIG",
  "BERTH_DATA_DIR",
]);

/**
 * Parses the variables that `schema` names, and reports all problems together. Refuses an unknown
 * BERTH_* variable, because it is likely a typo, except those in `known`. `NAME_FILE` provides
 * `NAME` from a file.
 */
export function parseEnv<S extends z.ZodObject>(
  schema: S,
  env: Env,
  known: readonly string[] = [],
): z.output<S> {
  const names = Object.keys(schema.shape);
  const problems: string[] = [];
  const values = new Map<string, string>();
  for (const name of names) {
    const value = readValue(name, env, problems);
    if (value !== undefined) values.set(name, value);
  }
  const allowed = new Set([...names, ...names.map((name) => `${name}_FILE`), ...known]);
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith("BERTH_") || value === "" || value === undefined) continue;
    if (!allowed.has(name) && !foreignNames.has(name)) problems.push(`✖ ${name} is unknown`);
  }
  const parsed = schema.safeParse(Object.fromEntries(values));
  if (!parsed.success) problems.push(z.prettifyError(parsed.error));
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems.join("\n"));
  return parsed.data;
}

/** An empty variable counts as unset: shells and unit files set such variables. */
function readValue(name: string, env: Env, problems: string[]): string | undefined {
  const direct = env[name] === "" ? undefined : env[name];
  const file = env[`${name}_FILE`];
  if (file === undefined || file === "") return direct;
  if (direct !== undefined)
    problems.push(`✖ ${name} and ${name}_FILE are both set: unset one of them`);
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    problems.push(`✖ ${name}_FILE names an unreadable file`);
    return undefined;
  }
}
