import type { Log } from "../../lib/log.ts";
import { runCommand } from "../exec.ts";

/** Node cannot send a datagram to the socket of systemd, so a program of systemd does. */
const systemdNotify = "/usr/bin/systemd-notify";
const timeoutMs = 5_000;

/**
 * Notifies systemd that the process serves, for a unit of `Type=notify`. Units that are ordered
 * after it start then. Does nothing without a service manager.
 */
export async function notifyReady(
  notifySocket: string | undefined,
  log: Log,
  program = systemdNotify,
): Promise<void> {
  if (notifySocket === undefined) return;
  try {
    await runCommand(program, ["READY=1"], { timeoutMs, env: { NOTIFY_SOCKET: notifySocket } });
  } catch (error) {
    log.error({ err: error }, "cannot notify systemd that the process serves");
  }
}
