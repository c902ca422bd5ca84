import type { Log } from "../../lib/log.ts";
import { runCommand } from "../exec.ts";

/** Node cannot send a datagram to the socket of systemd, so a program of systemd does. */
const systemdNotify = "/usr/bin/systemd-notify";
const notifyTimeoutMs = 5_000;
/** Two resets may be late or lost before systemd ends the process. */
const resetsPerTimeout = 4;
/**
 * A reset starts a program, which the kernel loads from the disk. A disk that stalls delays it
 * although the agent is healthy, and a killed agent cannot be loaded again meanwhile. So the
 * timeout is longer than most stalls. Containers run on without the agent, so a blocked event loop
 * may wait that long.
 */
const defaultTimeoutMs = 300_000;

export interface WatchdogOptions {
  /** The socket of the service manager (`NOTIFY_SOCKET`). Undefined without one. */
  notifySocket: string | undefined;
  /** The timeout of the unit (`WatchdogSec=`). Undefined if the unit has none. */
  unitTimeoutMs: number | undefined;
  log: Log;
  /** The program that sends a message. Tests replace it. */
  program?: string;
}

/**
 * Lets systemd end and restart this process when its event loop is blocked. Without a timeout of
 * the unit, it requests one of five minutes. So a unit file also suits agents of earlier releases,
 * which reset no watchdog. Does nothing without a service manager. Returns the function that ends
 * the resets.
 */
export function startWatchdog({
  notifySocket,
  unitTimeoutMs,
  log,
  program = systemdNotify,
}: WatchdogOptions): () => void {
  if (notifySocket === undefined) return () => undefined;
  const timeoutMs = unitTimeoutMs ?? defaultTimeoutMs;
  const request = unitTimeoutMs === undefined ? [`WATCHDOG_USEC=${timeoutMs * 1_000}`] : [];
  let isSending = false;
  const reset = async (messages: readonly string[] = []): Promise<void> => {
    // A message that is not sent yet resets the watchdog as well.
    if (isSending) return;
    isSending = true;
    try {
      const options = { timeoutMs: notifyTimeoutMs, env: { NOTIFY_SOCKET: notifySocket } };
      await runCommand(program, [...messages, "WATCHDOG=1"], options);
    } catch (error) {
      log.warn({ err: error }, "cannot reset the watchdog of systemd");
    } finally {
      isSending = false;
    }
  };
  void reset(request);
  const timer = setInterval(() => void reset(), timeoutMs / resetsPerTimeout);
  timer.unref();
  return () => clearInterval(timer);
}
