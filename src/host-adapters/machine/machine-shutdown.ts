import { runCommand } from "../exec.ts";

const systemctl = "/usr/bin/systemctl";
const timeoutMs = 1_000;
/** The status of systemctl in each state but `running`. */
const otherStateExitCode = 1;

/** True while systemd shuts the machine down. False without an answer of systemd. */
export async function isMachineStopping(): Promise<boolean> {
  const options = { timeoutMs, exitCodesAccepted: [otherStateExitCode] };
  const state = await runCommand(systemctl, ["is-system-running"], options).catch(() => "");
  return state.trim() === "stopping";
}
