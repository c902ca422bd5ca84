import type { ContainerTemplate } from "../../contracts/api/set-template.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { ObservedContainer, ObservedLocalSet } from "../model/local-set.ts";
import { isFinalExit } from "./completed-containers.ts";
import { type ContainerHistory, readContainerHistory } from "./container-history.ts";
import { type ContainerRun, getRunId, hasExited, isHookDone, isUp } from "./container-run.ts";
import { isOutdated } from "../model/outdated.ts";
import { repeatedPreparationReason } from "./preparations.ts";
import { exitReason, pullingReason, unhealthyReason, unseenReason } from "./reasons.ts";
import type { DesiredLocalSet, SetHistory } from "./set-history.ts";

/** The status of a template's container within the current run of infra. */
export interface LocalContainerStatus {
  name: string;
  template: ContainerTemplate;
  /** Undefined if it does not exist. */
  seen: ObservedContainer | undefined;
  known: Readonly<ContainerHistory>;
  /** The history of the observed run. */
  run: Readonly<ContainerRun> | undefined;
  /**
   * not-started: not started in this run of infra. exited: the policy restarts it. completed: the
   * policy does not restart it.
   */
  phase: "absent" | "not-started" | "running" | "exited" | "completed";
  /** It exists as the template describes it. An outdated container may still run. */
  isUpToDate: boolean;
}

/** The statuses of all containers of the template. */
export function computeStatuses(
  set: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
): LocalContainerStatus[] {
  return set.template.containers.map((template) => {
    const { name } = template;
    const seen = observed?.containers.find((candidate) => candidate.name === name);
    const known = readContainerHistory(history, name);
    const isKnownRun = seen?.isUnknown === true || (seen && known.run?.id === getRunId(seen));
    const run = isKnownRun ? known.run : undefined;
    return {
      name,
      template,
      seen,
      known,
      run,
      phase: computePhase(template, { seen, run, infraRun: history.infraRun }),
      isUpToDate: seen !== undefined && seen.state !== "dead" && !isOutdated(set, name, seen),
    };
  });
}

function computePhase(
  template: ContainerTemplate,
  {
    seen,
    run,
    infraRun,
  }: {
    seen: ObservedContainer | undefined;
    run: Readonly<ContainerRun> | undefined;
    infraRun: string | undefined;
  },
): LocalContainerStatus["phase"] {
  if (!seen) return "absent";
  if (isUp(seen)) return "running";
  if (!hasExited(seen) || !run || typeof run.infraRun !== "string") return "not-started";
  if (run.infraRun !== infraRun) return "not-started";
  if (run.isFailedStart) return "exited"; // stopped by a failed attempt
  return isFinalExit(template, seen.exitCode) ? "completed" : "exited";
}

/**
 * A container with a health check delays the next index until it has been healthy once. The hook
 * after its start delays it until that has succeeded. A one-shot container of an earlier template
 * does not count: its successor has to run before the next index.
 */
export function hasComeUp({ phase, template, run, isUpToDate }: LocalContainerStatus): boolean {
  if (phase === "running")
    return (
      isHookDone(template, run) && (!template.options.health || run?.probes.wasHealthy === true)
    );
  return phase === "completed" && isUpToDate;
}

export function isReady({ phase, template, seen, run }: LocalContainerStatus): boolean {
  if (phase === "completed") return seen?.exitCode === 0;
  if (seen?.state !== "running" || !isHookDone(template, run)) return false;
  return !template.options.health || run?.probes.isHealthy === true;
}

/** The problem that keeps a container from its desired state; undefined if there is none. */
export function containerReason(status: LocalContainerStatus): Reason | undefined {
  const { name, template, seen, known, run, phase, isUpToDate } = status;
  const { attempts, preparations } = known;
  if (seen?.isUnknown) return unseenReason(name);
  if (attempts.failure && !(isUpToDate && isReady(status))) return attempts.failure;
  if (known.needsImage) return pullingReason(template);
  if (!isUpToDate) return repeatedPreparationReason(preparations, `"${name}"`);
  if (seen && (phase === "exited" || (phase === "completed" && seen.exitCode !== 0)))
    return exitReason(seen);
  if (phase === "running" && run?.probes.detail !== undefined && !isReady(status))
    return unhealthyReason(name, run);
  return undefined;
}

/**
 * Why a container counts as a failed start: it exited, or it did not become healthy in time.
 * Undefined if it does not. Only for a set that has not run yet.
 */
export function findStartFailure(
  status: LocalContainerStatus,
): { reason: Reason; temporary: boolean } | undefined {
  const { name, template, seen, run, phase } = status;
  const { health } = template.options;
  if (!seen || !run) return undefined;
  const hasEnded = phase === "exited" || phase === "completed";
  const ofStart = () => ({ ...exitReason(seen), phase: "start" });
  // No policy restarts it, so it can never become healthy.
  if (phase === "completed" && health && !run.probes.wasHealthy)
    return { reason: ofStart(), temporary: false };
  if (run.isFailedStart) return undefined;
  if (seen.startFailure !== undefined && hasEnded) return { reason: ofStart(), temporary: false };
  if (phase === "exited") return { reason: ofStart(), temporary: true };
  const hookFailure = findHookFailure(status);
  if (hookFailure) return hookFailure;
  const { wasHealthy, failuresInRow } = run.probes;
  if (phase === "running" && health && !wasHealthy && failuresInRow >= health.failureThreshold)
    return { reason: unhealthyReason(name, run), temporary: true };
  return undefined;
}

/** Why a running container must start again: the hook after its start has failed. */
export function findHookFailure({
  run,
  phase,
}: LocalContainerStatus): { reason: Reason; temporary: boolean } | undefined {
  const reason = phase === "running" && !run?.isFailedStart ? run?.hook.failure : undefined;
  return reason && { reason, temporary: true };
}

/**
 * Judges one container for the report: its readiness, and the reason if it is not ready. One that
 * waits for its replacement is not ready as the template describes it, although it may serve.
 */
export function judgeContainer(
  status: LocalContainerStatus,
  observed: ObservedLocalSet | undefined,
): { ready: boolean; reason: Reason | null } {
  const isInfraUp = observed?.infra?.state === "running";
  const reason = containerReason(status) ?? status.known.outOfMemory ?? null;
  return { ready: isInfraUp && status.isUpToDate && isReady(status), reason };
}
