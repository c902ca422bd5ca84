import { parseArgs } from "node:util";

type Value = number | boolean | string | undefined;
type Read<T> = {
  [Name in keyof T]: T[Name] extends number
    ? number
    : T[Name] extends boolean
      ? boolean
      : string | undefined;
};

/**
 * Reads the options of a benchmark by their defaults: `--rounds 3` for `{ rounds: 5 }`, the flag
 * `--one-api` for `{ "one-api": false }`, and a text for undefined. Throws for unknown options and
 * for numbers that are none, because a benchmark with its defaults takes minutes.
 */
export function readOptions<T extends Record<string, Value>>(
  args: readonly string[] | undefined,
  defaults: T,
): Read<T> {
  const names = Object.entries(defaults).map(([name, value]) => {
    const type = typeof value === "boolean" ? ("boolean" as const) : ("string" as const);
    return [name, { type }] as const;
  });
  const { values } = parseArgs({ args: [...(args ?? [])], options: Object.fromEntries(names) });
  const read = Object.entries(defaults).map(([name, value]) => {
    const given = values[name];
    if (given === undefined) return [name, value];
    return [name, typeof value === "number" ? toNumber(name, String(given)) : given];
  });
  return Object.fromEntries(read) as Read<T>;
}

function toNumber(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0)
    throw new Error(`--${name} must be a number: ${text}`);
  return value;
}
