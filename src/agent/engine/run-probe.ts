import type { HealthCheck } from "../../contracts/api/set-template.ts";
import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import type { LocalSetSpec, ProbeResult, ProbeTarget } from "../model/local-set.ts";
import type { EngineContext } from "./engine-context.ts";

/**
 * SetPort.probe. A fault of the container, timeouts included, is an unhealthy result. Only a daemon
 * that does not answer is an error, so that it does not count against the container. TCP and HTTP
 * probes do not call the daemon, so they work while it hangs.
 */
export async function runProbe(
  context: EngineContext,
  set: LocalSetSpec,
  { container, address }: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { dockerId, name, state } = container;
  const health = set.template.containers.find((wanted) => wanted.name === name)?.options.health;
  if (!health) return { healthy: true };
  if (state !== "running") return { healthy: false, detail: `the container is ${state}` };
  return runCheck(context, set, { dockerId, address, check: health }, signal);
}

/** A check of a running container, or a hook of it. */
interface Check {
  dockerId: string;
  /** The observed address of the set. */
  address: string | undefined;
  check: Pick<HealthCheck, "exec" | "http" | "timeoutSeconds"> & Partial<Pick<HealthCheck, "tcp">>;
}

/** Runs the program of a check, or sends its request, within its timeout. */
export async function runCheck(
  { containers, cgroups, network }: EngineContext,
  { setId, attachments }: LocalSetSpec,
  { dockerId, address: observedAddress, check }: Check,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { exec, http, tcp, timeoutSeconds } = check;
  const listProcesses = () => cgroups.listProcesses(setId, dockerId);
  if (exec) {
    const execCheck = { command: exec.command, timeoutSeconds, listProcesses };
    return containers.probe({ setId, dockerId }, execCheck, signal);
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
