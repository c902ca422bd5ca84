import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { Log } from "../../lib/log.ts";
import type { Clock } from "../base/clock.ts";
import { noteProbe, postponeProbe } from "../set/container-history.ts";
import type { ObservedLocalSet, ProbeResult } from "../model/local-set.ts";
import type { SetPort } from "../ports/set-port.ts";
import type { SetHistory } from "../set/set-history.ts";
import type { WorkLimits } from "../base/work-limits.ts";

/** A set with its desired state, its observation and its history. */
export interface ProbeSubject {
  desired: DesiredSet;
  observed: ObservedLocalSet | undefined;
  history: SetHistory;
}

interface ProbeTools {
  port: Pick<SetPort, "probe">;
  clock: Clock;
  log: Log;
  limits: Pick<WorkLimits, "execProbes">;
}

/**
 * Probes containers in parallel and records the results. A probe that could not run is postponed.
 */
export async function probeContainers(
  tools: ProbeTools,
  probed: ProbeSubject,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await Promise.all(names.map((name) => probeContainer(tools, probed, name, signal)));
}

async function probeContainer(
  { port, clock, log, limits }: ProbeTools,
  { desired, observed, history }: ProbeSubject,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const wanted = desired.template.containers.find((container) => container.name === name);
  const seen = observed?.containers.find((container) => container.name === name);
  const check = wanted?.options.health;
  if (!check || !seen) return;
  let result: ProbeResult;
  try {
    const probe = () => {
      signal.throwIfAborted();
      return port.probe(desired, { container: seen, address: observed?.address }, signal);
    };
    result = await (check.exec ? limits.execProbes(desired.tenant, probe) : probe());
  } catch (error) {
    if (signal.aborted) return;
    log.debug({ err: error, setId: desired.setId, container: name }, "probe failed to run");
    postponeProbe(history, name, check, clock.nowMs());
    return;
  }
  noteProbe(history, seen, check, result, clock.nowMs());
}
