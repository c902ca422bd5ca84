import type { LocalSetSpec, ProbeResult, ProbeTarget } from "../model/local-set.ts";
import type { EngineContext } from "./engine-context.ts";

/**
 * SetPort.probe. A fault of the container, timeouts included, is an unhealthy result. Only a daemon
 * that does not answer is an error, so that it does not count against the container. TCP and HTTP
 * probes do not call the daemon, so they work while it hangs.
 */
export async function runProbe(
  { containers, cgroups, network }: EngineContext,
  { setId, template }: LocalSetSpec,
  { container, address }: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { dockerId, name, state } = container;
  const health = template.containers.find((wanted) => wanted.name === name)?.options.health;
  if (!health) return { healthy: true };
  if (state !== "running") return { healthy: false, detail: `the container is ${state}` };
  const { exec, http, tcp, timeoutSeconds } = health;
  if (exec) {
    const listProcesses = () => cgroups.listProcesses(setId, dockerId);
    const check = { command: exec.command, timeoutSeconds, listProcesses };
    return containers.probe({ setId, dockerId }, check, signal);
  }
  if (address === undefined) return { healthy: false, detail: "the set has no address" };
  if (http) return network.probe({ ...http, address }, timeoutSeconds, signal);
  if (tcp) return network.probe({ ...tcp, address }, timeoutSeconds, signal);
  return { healthy: true };
}
