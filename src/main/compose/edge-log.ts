import type { Log, LogLevel } from "../../lib/log.ts";

const levels = ["debug", "info", "warn", "error", "silent"] as const satisfies LogLevel[];

/**
 * A log that writes JSON lines to the console, from which Cloudflare reads logs. pino needs a file
 * descriptor.
 */
export function createEdgeLog(level: LogLevel, base: Readonly<Record<string, unknown>>): Log {
  const least = levels.indexOf(level);
  const writeAt = (name: (typeof levels)[number]) => {
    if (levels.indexOf(name) < least) return () => undefined;
    return (fields: object, message: string): void => {
      const time = new Date().toISOString();
      const line = { level: name, time, ...base, ...withReadableError(fields), msg: message };
      console.log(JSON.stringify(line));
    };
  };
  return {
    debug: writeAt("debug"),
    info: writeAt("info"),
    warn: writeAt("warn"),
    error: writeAt("error"),
    child: (bindings) => createEdgeLog(level, { ...base, ...bindings }),
  };
}

function withReadableError(fields: object): object {
  if (!("err" in fields) || !(fields.err instanceof Error)) return fields;
  const { name, message, stack } = fields.err;
  return { ...fields, err: { type: name, message, stack } };
}
