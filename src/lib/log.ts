import { type DestinationStream, pino } from "pino";

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
const BUFFERED_BYTES = 12_288;
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
        "password",
        "*.password",
        "*.*.password",
      ],
    },
    openBuffered(options.fileDescriptor ?? 1),
  );
}

/** Not `periodicFlush` of pino: it writes an empty text each time, even if no line was logged. */
function openBuffered(fileDescriptor: number): DestinationStream {
  const destination = pino.destination({
    fd: fileDescriptor,
    sync: false,
    minLength: BUFFERED_BYTES,
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = (): void => {
    timer = undefined;
    destination.flush();
  };
  return {
    write(line) {
      destination.write(line);
      if (timer !== undefined) return;
      timer = setTimeout(flush, BUFFERED_MS);
      timer.unref();
    },
  };
}

/** Drops every line. For tests and one-shot commands. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
};
