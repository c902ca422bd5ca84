import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import type { LocalSetSpec, ProbeResult, ProbeTarget } from "../model/local-set.ts";
import type { EngineContext } from "./engine-context.ts";

/**
 * SetPort.probe. A fault of the container, timeouts included, is an unhealthy result. Only a daemon
 * that does not answer is an error, so that it does not count against the container. TCP and HTTP
 * probes do not call the daemon, so they work while it hangs.
 */
export async function runProbe(
  { containers, cgroups, network }: EngineContext,
  { setId, template, attachments }: LocalSetSpec,
  { container, address: observedAddress }: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { dockerId, name, state } = container;
  const health = template.containers.find((wanted) => wanted.name === name)?.options.health;
  if (!health) return { healthy: true };
  if (state !== "running") return { healthy: false, detail: `the container is ${state}` };
  const { exec, http, tcp, timeoutSeconds } = health;
  const listProcesses = () => cgroups.listProcesses(setId, dockerId);
  if (exec) {
    const check = { command: exec.command, timeoutSeconds, listProcesses };
    return containers.probe({ setId, dockerId }, check, signal);
  }
  const [first] = attachments?.[0]?.addresses ?? [];
  const attached = first === undefined ? undefined : stripPrefixLength(first);
  const address = attached ?? observedAddress;
  if (address === undefined) return { healthy: false, detail: "the set has no address" };
  const endpoint = { address, ...(attached === undefined ? {} : { listProcesses }) };
  if (http) return network.probe({ ...http, ...endpoint }, timeoutSeconds, signal);
  if (tcp) return network.probe({ ...tcp, ...endpoint }, timeoutSeconds, signal);
  return { healthy: true };
}
