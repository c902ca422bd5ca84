import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError, UnreadableFileError } from "./config-error.ts";

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
 *
 * Throws UnreadableFileError if the only problems are unreadable files, and otherwise ConfigError.
 */
export function parseEnv<S extends z.ZodObject>(
  schema: S,
  env: Env,
  known: readonly string[] = [],
): z.output<S> {
  const names = Object.keys(schema.shape);
  const problems: string[] = [];
  const values = new Map<string, string>();
  const unreadable = new Map<string, string>();
  for (const name of names) {
    const { value, ...found } = readValue(name, env);
    if (value !== undefined) values.set(name, value);
    if (found.problem !== undefined) problems.push(found.problem);
    if (found.unreadable !== undefined) unreadable.set(name, found.unreadable);
  }
  const allowed = new Set([...names, ...names.map((name) => `${name}_FILE`), ...known]);
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith("BERTH_") || value === "" || value === undefined) continue;
    if (!allowed.has(name) && !foreignNames.has(name)) problems.push(`✖ ${name} is unknown`);
  }
  const parsed = schema.safeParse(Object.fromEntries(values));
  // The value of an unreadable file is unknown, so its absence is not a second problem.
  const issues = parsed.error?.issues.filter(({ path: [name] }) => !unreadable.has(String(name)));
  if (issues && issues.length > 0) problems.push(z.prettifyError({ issues }));
  const all = [...unreadable.values(), ...problems].join("\n");
  if (problems.length > 0) throw new ConfigError(all);
  // Without other issues, only the values of unreadable files are missing.
  if (unreadable.size > 0 || !parsed.success) throw new UnreadableFileError(all);
  return parsed.data;
}

interface ReadValue {
  value?: string | undefined;
  problem?: string;
  unreadable?: string;
}

/** An empty variable counts as unset: shells and unit files set such variables. */
function readValue(name: string, env: Env): ReadValue {
  const direct = env[name] === "" ? undefined : env[name];
  const file = env[`${name}_FILE`];
  if (file === undefined || file === "") return { value: direct };
  if (direct !== undefined) {
    const problem = `✖ ${name} and ${name}_FILE are both set: unset one of them`;
    return { value: direct, problem };
  }
  try {
    return { value: readFileSync(file, "utf8").trim() };
  } catch (error) {
    const code = String((error as NodeJS.ErrnoException).code);
    return { unreadable: `✖ ${name}_FILE names an unreadable file (${code})` };
  }
}
