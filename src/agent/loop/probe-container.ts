import type { Log } from "../../lib/log.ts";
import type { Clock } from "../base/clock.ts";
import type { WorkLimits } from "../base/work-limits.ts";
import type { ObservedLocalSet, ProbeResult } from "../model/local-set.ts";
import type { SetPort } from "../ports/set-port.ts";
import { findObservedRun } from "../set/container-history.ts";
import { noteProbe, postponeProbe } from "../set/container-run.ts";
import type { DesiredLocalSet, SetHistory } from "../set/set-history.ts";

/** A set with its desired state, its observation and its history. */
export interface ProbeSubject {
  desired: DesiredLocalSet | undefined;
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
 * Probes a container and records the result. A probe that could not run is postponed. Returns the
 * time of the next probe if the container was healthy and still is; undefined if anything changed.
 */
export async function probeContainer(
  { port, clock, log, limits }: ProbeTools,
  { desired, observed, history }: ProbeSubject,
  name: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  const wanted = desired?.template.containers.find((container) => container.name === name);
  const seen = observed?.containers.find((container) => container.name === name);
  const check = wanted?.options.health;
  if (!desired || !check || !seen) return undefined;
  let result: ProbeResult;
  try {
    const probe = () => {
      signal.throwIfAborted();
      return port.probe(desired, { container: seen, address: observed?.address }, signal);
    };
    // A probe in the namespace of a set is a program, too.
    const isProgram = check.exec !== undefined || desired.attachments !== undefined;
    result = await (isProgram ? limits.execProbes(desired.tenant, probe) : probe());
  } catch (error) {
    if (signal.aborted) return undefined;
    log.debug({ err: error, setId: desired.setId, container: name }, "probe failed to run");
    const run = findObservedRun(history, seen);
    if (run) postponeProbe(run, check, clock.nowMs());
    return undefined;
  }
  // Meanwhile the container may have begun another run.
  const run = findObservedRun(history, seen);
  if (!run || !noteProbe(run, check, result, clock.nowMs()) || signal.aborted) return undefined;
  return run.probes.nextAtMs;
}
