import { pino } from "pino";
import { openLogWriter } from "./log-writer.ts";

/** One constant message, data in fields. Errors go under `err`. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(bindings: Record<string, unknown>): Log;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/**
 * Writes JSON lines to stdout or the given descriptor. It redacts credentials as a second defense;
 * callers must not log them. The log writes lines together, and the exit of the process writes the
 * rest.
 */
export function createLog(options: {
  service: string;
  version: string;
  level: LogLevel;
  fileDescriptor?: 1 | 2;
}): Log {
  return pino(
    {
      level: options.level,
      base: { service: options.service, version: options.version, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: [
        "authorization",
        "*.authorization",
        "credential",
        "*.credential",
        "secret",
        "*.secret",
        "token",
        "*.token",
        "password",
        "*.password",
        "*.*.password",
      ],
    },
    openLogWriter(options.fileDescriptor ?? 1),
  );
}

/** Drops every line. For tests and one-shot commands. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
};
