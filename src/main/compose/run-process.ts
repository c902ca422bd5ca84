import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError, UnreadableFileError } from "../../config/config-error.ts";
import { type Env } from "../../config/parse-env.ts";
import { createLog, type Log, type LogLevel } from "../../lib/log.ts";
import { Shutdown } from "../../lib/shutdown.ts";

const EXIT_CONFIG = 78; // EX_CONFIG of sysexits.h
const EXIT_FAILED = 1;
const EXIT_INTERRUPTED = 130;

/** The environment of a running process. */
export interface ProcessContext {
  log: Log;
  shutdown: Shutdown;
  version: string;
  /** Shuts the process down like a signal, but with this exit code. */
  stop(exitCode: number): void;
}

interface ProcessConfig {
  BERTH_LOG_LEVEL: LogLevel;
  BERTH_SHUTDOWN_TIMEOUT_MS: number;
  BERTH_READY_JSON: boolean;
}

/**
 * Runs a long-running process. It loads the configuration, or exits with code 78, and logs to
 * standard output. SIGTERM or SIGINT shuts the process down gracefully; the second signal ends it
 * immediately. `start` opens the process's resources, adds them to `shutdown`, and returns the
 * fields of the ready line.
 */
export async function runProcess<C extends ProcessConfig>(
  service: string,
  loadConfig: (env: Env) => C,
  start: (config: C, context: ProcessContext) => Promise<Record<string, unknown>>,
): Promise<void> {
  const config = loadConfigOrExit(loadConfig);
  const version = readVersion();
  const log = createLog({ service, version, level: config.BERTH_LOG_LEVEL });
  const shutdown = new Shutdown({ log, deadlineMs: config.BERTH_SHUTDOWN_TIMEOUT_MS });
  const stop = (exitCode: number): void => {
    if (shutdown.hasBegun) process.exit(EXIT_INTERRUPTED);
    void shutdown.run().then(() => process.exit(exitCode));
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      log.info({ signal }, "stopping");
      stop(0);
    });
  }
  process.on("unhandledRejection", (error) => {
    log.error({ err: error }, "unhandled rejection");
    stop(1);
  });
  try {
    const ready = await start(config, { log, shutdown, version, stop });
    log.info(ready, "ready");
    if (config.BERTH_READY_JSON)
      process.stdout.write(`${JSON.stringify({ ready: true, ...ready })}\n`);
  } catch (error) {
    if (shutdown.hasBegun) return; // a signal arrived during the start
    log.error({ err: error }, "cannot start the process");
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${service} did not start: ${reason}\n`);
    stop(1);
  }
}

/**
 * One-shot processes use it too. Never returns if the environment is invalid or unreadable. Only
 * the invalid one has the code after which systemd does not start the host agent again.
 */
export function loadConfigOrExit<C>(loadConfig: (env: Env) => C): C {
  try {
    return loadConfig(process.env);
  } catch (error) {
    if (error instanceof UnreadableFileError) {
      process.stderr.write(`The environment cannot be read:\n${error.message}\n`);
      process.exit(EXIT_FAILED);
    }
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`The environment is invalid:\n${error.message}\n`);
    process.exit(EXIT_CONFIG);
  }
}

export function readVersion(): string {
  const file = new URL("../../../package.json", import.meta.url);
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(file, "utf8"))).version;
}
