import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError, type Env } from "../../config/parse-env.ts";
import { createLog, type Log, type LogLevel } from "../../lib/log.ts";
import { Shutdown } from "../../lib/shutdown.ts";

const EXIT_CONFIG = 78; // EX_CONFIG of sysexits.h
const EXIT_INTERRUPTED = 130;

/** What a process is given to run in. */
export interface ProcessContext {
  log: Log;
  shutdown: Shutdown;
  version: string;
  /** Ends the process in order, as a signal does, but with this exit code. */
  stop(exitCode: number): void;
}

interface ProcessConfig {
  BERTH_LOG_LEVEL: LogLevel;
  BERTH_SHUTDOWN_TIMEOUT_MS: number;
  BERTH_READY_JSON: boolean;
}

/**
 * The frame of every long-running process: its configuration, or exit code 78; a log on standard output; an orderly end at
 * SIGTERM or SIGINT, and an end at once at the second. `start` opens what the process is, adds to `shutdown` what it opened,
 * and gives what the ready line says.
 */
export async function runProcess<C extends ProcessConfig>(
  service: string,
  loadConfig: (env: Env) => C,
  start: (config: C, running: ProcessContext) => Promise<Record<string, unknown>>,
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
    if (shutdown.hasBegun) return; // a signal came during the start
    log.error({ err: error }, "did not start");
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${service} did not start: ${reason}\n`);
    stop(1);
  }
}

/** For one-shot processes too. Never returns when the environment is not valid. */
export function loadConfigOrExit<C>(loadConfig: (env: Env) => C): C {
  try {
    return loadConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`The environment is not valid:\n${error.message}\n`);
    process.exit(EXIT_CONFIG);
  }
}

export function readVersion(): string {
  const file = new URL("../../../package.json", import.meta.url);
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(file, "utf8"))).version;
}
