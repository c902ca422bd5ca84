import { pino } from "pino";

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
 * The log writes lines together once they have this length. Otherwise each request would cost a
 * system call and the wake-up of a thread.
 */
const BUFFERED_BYTES = 4_096;
/** The log writes shorter lines after this time. SIGKILL loses at most the lines of this time. */
const BUFFERED_MS = 50;

/**
 * Writes JSON lines to stdout or the given descriptor. It redacts credentials as a second defense;
 * callers must not log them. The log writes lines together, and the exit of the process writes the
 * rest.
 */
export function createLog(options: {
  service: string;
  version: string;
  level: LogLevel;
  fileDescriptor?: number;
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
      ],
    },
    pino.destination({
      fd: options.fileDescriptor ?? 1,
      sync: false,
      minLength: BUFFERED_BYTES,
      periodicFlush: BUFFERED_MS,
    }),
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
