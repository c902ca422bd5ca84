import type { ContainerTemplate, HealthCheck } from "../../contracts/api/set-template.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { ObservedContainer, ProbeResult } from "../model/local-set.ts";
import type { PersistedRun } from "../ports/state-store.ts";

/**
 * Shortest interval of probes during a start, so that a start does not wait for the probe interval.
 */
const STARTUP_PROBE_MS_MIN = 25;
/**
 * A new agent begins the probes of running containers within this time, and not together. It
 * assumes that they are healthy until then.
 */
const ADOPTED_PROBES_MS = 10_000;

/** One run of a container, from a start to its exit. */
export interface ContainerRun {
  /** Docker's container id and the start time, joined by "@". */
  id: string;
  /** Monotonic time of its first observation by this agent; undefined if only the file knows it. */
  seenAtMs: number | undefined;
  /**
   * The run of infra in which it began; null for one before the observed run, and undefined while
   * that is unknown.
   */
  infraRun: string | null | undefined;
  specHash: string;
  exit: ContainerExit | undefined;
  /** True if this agent has recorded the exit. */
  isExitCounted: boolean;
  /** True if it counts as a failed start. */
  isFailedStart: boolean;
  /** True if its end counts against it, although Berth stopped it. */
  isAtFault: boolean;
  /** True if Berth has begun to stop it. */
  isStoppedByBerth: boolean;
  /** Processes that the kernel killed for lack of memory. */
  oomKills: number;
  probes: ProbeHistory;
  hook: HookHistory;
}

/** The hook that follows the start of the run, if the template has one. */
interface HookHistory {
  isDone: boolean;
  /** The earliest time of the next attempt. */
  nextAtMs: number;
  /** The reason of the last attempt, if no other one follows. */
  failure: Reason | undefined;
}

interface ContainerExit {
  code: number | undefined;
  finishedAt: string;
}

interface ProbeHistory {
  isHealthy: boolean;
  /** True if a probe has succeeded in this run. Then containers with a higher index may start. */
  wasHealthy: boolean;
  /** Failed probes in a row, and the detail of the last one. */
  failuresInRow: number;
  detail: string | undefined;
  count: number;
  nextAtMs: number;
}

/** Identifies a run of a container; undefined for a container that never ran. */
export function getRunId(seen: ObservedContainer): string | undefined {
  return seen.startedAt === undefined ? undefined : `${seen.dockerId}@${seen.startedAt}`;
}

/**
 * Starts the record of a run. If the set has run before, a new agent assumes that its running
 * containers are healthy until a probe fails. It also assumes that their hooks have run.
 */
export function beginRun(
  id: string,
  { specHash, isAdopted, nowMs }: { specHash: string; isAdopted: boolean; nowMs: number },
): ContainerRun {
  return {
    id,
    seenAtMs: nowMs,
    infraRun: undefined,
    specHash,
    exit: undefined,
    isExitCounted: false,
    isFailedStart: false,
    isAtFault: false,
    isStoppedByBerth: false,
    oomKills: 0,
    probes: {
      isHealthy: isAdopted,
      wasHealthy: isAdopted,
      failuresInRow: 0,
      detail: undefined,
      count: 0,
      nextAtMs: nowMs + (isAdopted ? spread(id, ADOPTED_PROBES_MS) : 0),
    },
    hook: { isDone: isAdopted, nextAtMs: nowMs, failure: undefined },
  };
}

/** A number below `end` that follows from the text, and is different for most texts. */
function spread(text: string, end: number): number {
  let sum = 0;
  for (const character of text) sum = (sum * 31 + character.charCodeAt(0)) >>> 0;
  return sum % end;
}

/**
 * A run that the state file describes, and that this agent has not observed yet. `infraRun` as in
 * ContainerRun.
 */
export function restoreRun(
  { run, specHash, exit }: PersistedRun,
  infraRun: string | null | undefined,
): ContainerRun {
  const restored = beginRun(run, { specHash, isAdopted: false, nowMs: 0 });
  const { code, finishedAt } = exit ?? {};
  return {
    ...restored,
    seenAtMs: undefined,
    infraRun,
    exit: finishedAt === undefined ? undefined : { code, finishedAt },
  };
}

/** The container id and the start time of a run. */
export function parseRunId(id: string): { dockerId: string; startedAt: string } {
  const [dockerId = "", startedAt = ""] = id.split("@");
  return { dockerId, startedAt };
}

export function isUp({ state }: ObservedContainer): boolean {
  return state === "running" || state === "restarting";
}

/**
 * True for a container that ran and exited. False if it never started, or lost its network and
 * still runs.
 */
export function hasExited({ state, startedAt, finishedAt }: ObservedContainer): boolean {
  if (state !== "exited" && state !== "dead") return false;
  return startedAt !== undefined && finishedAt !== undefined;
}

/**
 * Records a probe's result and schedules the next probe. Failures during the start period do not
 * count. Returns true if the container was healthy and still is, so that nothing else changes.
 */
export function noteProbe(
  run: ContainerRun,
  check: HealthCheck,
  result: ProbeResult,
  nowMs: number,
): boolean {
  const { probes } = run;
  const isSteady = result.healthy && probes.isHealthy && probes.failuresInRow === 0;
  probes.count++;
  if (result.healthy) {
    probes.isHealthy = true;
    probes.wasHealthy = true;
    probes.failuresInRow = 0;
    probes.detail = undefined;
  } else {
    const isStarting = nowMs - (run.seenAtMs ?? nowMs) < check.startPeriodSeconds * 1_000;
    if (probes.wasHealthy || !isStarting) probes.failuresInRow++;
    probes.detail = result.detail;
    if (probes.failuresInRow >= check.failureThreshold) probes.isHealthy = false;
  }
  const intervalMs = check.intervalSeconds * 1_000;
  const eagerMs = STARTUP_PROBE_MS_MIN * 2 ** Math.min(probes.count - 1, 10);
  probes.nextAtMs = nowMs + (probes.wasHealthy ? intervalMs : Math.min(intervalMs, eagerMs));
  return isSteady;
}

/**
 * Schedules the next probe after a probe that could not run. The daemon is at fault, not the
 * container.
 */
export function postponeProbe(run: ContainerRun, check: HealthCheck, nowMs: number): void {
  run.probes.nextAtMs = nowMs + check.intervalSeconds * 1_000;
}

/** The pause between two attempts of a hook that sends a request. */
const HOOK_RETRY_MS = 500;

/** True if the hook that follows the start has succeeded, or if there is none. */
export function isHookDone(
  { options }: ContainerTemplate,
  run: Readonly<ContainerRun> | undefined,
): boolean {
  return options.hooks?.postStart === undefined || run?.hook.isDone === true;
}

/**
 * Records that the hook of a run has failed. A request is repeated within the timeout of the hook,
 * because the program may not listen yet.
 */
export function noteHookFailed(
  run: ContainerRun,
  { options }: ContainerTemplate,
  reason: Reason,
  nowMs: number,
): void {
  const { http, timeoutSeconds = 0 } = options.hooks?.postStart ?? {};
  const isLate = nowMs - (run.seenAtMs ?? nowMs) >= timeoutSeconds * 1_000;
  if (http && !isLate) run.hook.nextAtMs = nowMs + HOOK_RETRY_MS;
  else run.hook.failure = reason;
}
