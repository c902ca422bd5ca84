import type { Reason } from "../contracts/common/primitives.ts";
import type { ContainerTemplate } from "../contracts/api/set-template.ts";
import { INFRA_CONTAINER } from "./container-names.ts";
import type { LocalSetSpec, ObservedContainer, ObservedLocalSet } from "./ports/set-port.ts";
import {
  type ContainerMemory,
  containerMemory,
  hasEnded,
  lifeOf,
  memoryOf,
} from "./container-memory.ts";
import type { DesiredLocalSet, SetMemory } from "./set-memory.ts";
import type { ReportedState } from "./set-state.ts";
import { ioHindrance, isSized } from "./set-limits.ts";
import { specHash } from "./spec-hash.ts";
import { cutText } from "../lib/text/truncate.ts";

/** The one next step for a set. What a step does is the port's; every step may be repeated. */
export type SetAction =
  | { kind: "none" }
  /** Nothing before this time, or before something changes. */
  | { kind: "wait"; untilMs: number }
  | { kind: "prepare" }
  /** Limits or the volume are not of the size that they should be. Nothing else waits for it. */
  | { kind: "resize" }
  | { kind: "start"; containers: string[] }
  /** To be broken off at `untilMs`, when something else is due; Infinity when nothing is. */
  | { kind: "probe"; containers: string[]; untilMs: number }
  /** A start has failed without an error of a step: these are stopped, and it counts as a failed attempt. */
  | { kind: "fail"; containers: string[]; reason: Reason; temporary: boolean }
  | { kind: "stop-all" }
  | { kind: "remove" };

export interface Verdict {
  action: SetAction;
  /** What to report; the transition table (set-state.ts) has the last word. */
  state: ReportedState;
  ready: boolean;
  reason: Reason | null;
}

/**
 * Compares what a set should be with what is there and says the one next step and what to report. Pure: the same
 * arguments give the same verdict. `desired` undefined: Berth says that this host should have no such set.
 *
 * It goes by what is there and not by what was done before. So any step may be lost: a crash between two steps, somebody
 * else's `docker stop` and an agent that starts anew all look the same. The start order is by index; a life of
 * the infra container is one start of the set, and containers that have not run in that life are started in order,
 * while those that have are restarted as their policies say.
 */
export function reconcile(
  desired: DesiredLocalSet | undefined,
  observed: ObservedLocalSet | undefined,
  memory: SetMemory,
  nowMs: number,
): Verdict {
  if (desired === undefined || desired.desired === "deleted") {
    return observed ? step({ kind: "remove" }, "stopping", memory, nowMs) : done("absent");
  }
  if (desired.desired === "stopped") {
    return isAnyUp(observed)
      ? step({ kind: "stop-all" }, "stopping", memory, nowMs)
      : atRest(desired, observed, "stopped", memory, nowMs);
  }
  if (memory.gaveUp) return { ...done("failed"), reason: memory.failure ?? null };
  if (memory.overRootfs?.isStopped) {
    const { reason } = memory.overRootfs;
    const verdict = isAnyUp(observed)
      ? step({ kind: "stop-all" }, "failed", memory, nowMs)
      : atRest(desired, observed, "failed", memory, nowMs);
    return { ...verdict, reason };
  }
  if (needsPreparation(desired, observed)) {
    const restartAtMs = containerMemory(memory, INFRA_CONTAINER).restartAtMs;
    const state = memory.hasRun ? "running" : "preparing";
    return step({ kind: "prepare" }, state, memory, nowMs, restartAtMs);
  }
  return keepRunning(desired, observed, memory, nowMs);
}

function done(state: ReportedState): Verdict {
  return { action: { kind: "none" }, state, ready: false, reason: null };
}

/** Of a set that does not run, and is to be of its size all the same: its host is booked for what it may take when it starts. */
function atRest(
  set: LocalSetSpec,
  observed: ObservedLocalSet | undefined,
  state: ReportedState,
  memory: SetMemory,
  nowMs: number,
): Verdict {
  if (!observed || isSized(set.template, observed)) return done(state);
  const { retryAtMs, failure } = memory.resize;
  const action: SetAction =
    retryAtMs > nowMs ? { kind: "wait", untilMs: retryAtMs } : { kind: "resize" };
  return { action, state, ready: false, reason: failure ?? null };
}

/** The step, or waiting for its time. */
function step(
  action: SetAction,
  state: ReportedState,
  memory: SetMemory,
  nowMs: number,
  notBeforeMs = 0,
): Verdict {
  const dueAtMs = Math.max(memory.retryAtMs, notBeforeMs);
  return {
    action: dueAtMs > nowMs ? { kind: "wait", untilMs: dueAtMs } : action,
    state,
    ready: false,
    reason: memory.failure ?? null,
  };
}

function isUp({ state }: ObservedContainer): boolean {
  return state === "running" || state === "restarting";
}

function isAnyUp(observed: ObservedLocalSet | undefined): boolean {
  if (!observed) return false;
  return (observed.infra !== undefined && isUp(observed.infra)) || observed.containers.some(isUp);
}

/** False when infra runs, and every container of the template is there as it should be, and no other. */
function needsPreparation(
  set: LocalSetSpec,
  observed: ObservedLocalSet | undefined,
): observed is undefined {
  const infra = observed?.infra;
  if (!infra || infra.state !== "running" || isOutdated(set, infra, INFRA_CONTAINER)) return true;
  const { containers } = set.template;
  if (observed.containers.length !== containers.length) return true;
  return containers.some(({ name }) => {
    const seen = observed.containers.find((candidate) => candidate.name === name);
    return !seen || seen.state === "dead" || isOutdated(set, seen, name);
  });
}

function isOutdated(set: LocalSetSpec, seen: ObservedContainer, name: string): boolean {
  return seen.restartGeneration < set.restartGeneration || seen.specHash !== specHash(set, name);
}

/** A container of the template as it stands within this life of the infra container. */
interface Standing {
  name: string;
  template: ContainerTemplate;
  seen: ObservedContainer;
  known: Readonly<ContainerMemory>;
  /**
   * fresh: not started in this life of infra. ended: to be restarted. over: ended, and its policy leaves it so.
   */
  phase: "fresh" | "up" | "ended" | "over";
}

function standingOf(
  template: ContainerTemplate,
  seen: ObservedContainer,
  infraStartedAt: string | undefined,
  memory: SetMemory,
): Standing {
  const { name } = template;
  const known = containerMemory(memory, name);
  return { name, template, seen, known, phase: phaseOf() };

  function phaseOf(): Standing["phase"] {
    if (isUp(seen)) return "up";
    const isOfThisLife =
      hasEnded(seen) && Date.parse(seen.startedAt ?? "") >= Date.parse(infraStartedAt ?? "");
    if (!isOfThisLife) return "fresh";
    if (known.failedLife === lifeOf(seen)) return "ended"; // stopped by a failed attempt
    const { on } = template.options.restart;
    return on === "never" || (on === "failure" && seen.exitCode === 0) ? "over" : "ended";
  }
}

/** Everything is prepared: containers are started by index, restarted and probed. */
function keepRunning(
  set: LocalSetSpec,
  observed: ObservedLocalSet,
  memory: SetMemory,
  nowMs: number,
): Verdict {
  const standings = set.template.containers.flatMap((template) => {
    const seen = observed.containers.find((candidate) => candidate.name === template.name);
    return seen ? [standingOf(template, seen, observed.infra?.startedAt, memory)] : [];
  });
  const failed = memory.hasRun ? undefined : findFailedStart(standings);
  if (failed) return { action: failed, state: "starting", ready: false, reason: failed.reason };

  const { startable, isComplete } = inStartOrder(standings);
  const hasRun = memory.hasRun || isComplete;
  const dueAtMs = ({ known, phase }: Standing) =>
    Math.max(memory.retryAtMs, phase === "ended" ? known.restartAtMs : 0);
  const due = startable.filter((standing) => dueAtMs(standing) <= nowMs);
  const probed = standings.filter(
    ({ phase, template }) => phase === "up" && template.options.health,
  );
  const report = {
    state: hasRun ? ("running" as const) : ("starting" as const),
    ready: isComplete && standings.every(isReady),
    reason: reasonOf(standings, memory) ?? ioHindrance(set.template, observed) ?? null,
  };
  if (due.length > 0) return { action: { kind: "start", containers: namesOf(due) }, ...report };
  const resizeAtMs = isSized(set.template, observed) ? Infinity : memory.resize.retryAtMs;
  if (resizeAtMs <= nowMs) return { action: { kind: "resize" }, ...report };
  const startAtMs = Math.min(resizeAtMs, ...startable.map(dueAtMs));
  const dueProbes = probed.filter(({ known }) => known.nextProbeAtMs <= nowMs);
  if (dueProbes.length > 0) {
    const action = { kind: "probe" as const, containers: namesOf(dueProbes), untilMs: startAtMs };
    return { action, ...report };
  }
  const untilMs = Math.min(startAtMs, ...probed.map(({ known }) => known.nextProbeAtMs));
  const action: SetAction = Number.isFinite(untilMs) ? { kind: "wait", untilMs } : { kind: "none" };
  return { action, ...report };
}

function namesOf(standings: readonly Standing[]): string[] {
  return standings.map(({ name }) => name);
}

/**
 * What may be started now: what is down of the lowest index at which something is still to come up, and of the lower ones
 * what has to be restarted. `isComplete`: all have come up in this life of infra.
 */
function inStartOrder(standings: readonly Standing[]): {
  startable: Standing[];
  isComplete: boolean;
} {
  const startable: Standing[] = [];
  for (const index of [...new Set(standings.map(({ template }) => template.index))].sort(
    (a, b) => a - b,
  )) {
    const group = standings.filter(({ template }) => template.index === index);
    startable.push(...group.filter(({ phase }) => phase === "fresh" || phase === "ended"));
    if (!group.every(hasComeUp)) return { startable, isComplete: false };
  }
  return { startable, isComplete: startable.length === 0 };
}

/** What has a health check holds up the next index until it was healthy once. */
function hasComeUp({ phase, template, known }: Standing): boolean {
  if (phase === "up") return !template.options.health || known.wasHealthy;
  return phase === "over";
}

function isReady({ phase, template, seen, known }: Standing): boolean {
  if (phase === "over") return seen.exitCode === 0;
  return seen.state === "running" && (!template.options.health || known.isHealthy);
}

/** Before the set ever ran, a container that ends or does not get healthy in time is a failed start. */
function findFailedStart(
  standings: readonly Standing[],
): Extract<SetAction, { kind: "fail" }> | undefined {
  for (const { name, template, seen, known, phase } of standings) {
    const { health } = template.options;
    const isUncounted = known.failedLife !== lifeOf(seen);
    if (phase === "ended" && isUncounted) {
      return fail(name, { ...endReason(name, seen), phase: "start" }, true);
    }
    // Nothing will start it again, so it will never be healthy.
    if (phase === "over" && health && !known.wasHealthy) {
      return fail(name, { ...endReason(name, seen), phase: "start" }, false);
    }
    const isUnhealthy =
      health && !known.wasHealthy && known.probeFailures >= health.failureThreshold;
    if (phase === "up" && isUnhealthy && isUncounted) {
      return fail(name, unhealthyReason(name, known), true);
    }
  }
  return undefined;
}

function fail(name: string, reason: Reason, temporary: boolean) {
  return { kind: "fail" as const, containers: [name], reason, temporary };
}

/** The first thing that keeps the set from being as it should; null when nothing does. */
function reasonOf(standings: readonly Standing[], memory: SetMemory): Reason | null {
  if (memory.failure) return memory.failure;
  for (const standing of standings) {
    const reason = containerReason(standing);
    if (reason) return reason;
  }
  return memory.resize.failure ?? memory.overRootfs?.reason ?? null;
}

function containerReason(standing: Standing): Reason | undefined {
  const { name, seen, known, phase } = standing;
  if (phase === "ended" || (phase === "over" && seen.exitCode !== 0)) return endReason(name, seen);
  if (phase === "up" && known.probeDetail !== undefined && !isReady(standing)) {
    return unhealthyReason(name, known);
  }
  return undefined;
}

/** Of one container for the report: whether it is ready, and if it is not, why. */
export function judgeContainer(
  template: ContainerTemplate,
  observed: ObservedLocalSet,
  memory: SetMemory,
): { ready: boolean; reason: Reason | null } {
  const seen = observed.containers.find((candidate) => candidate.name === template.name);
  if (!seen) return { ready: false, reason: null };
  const standing = standingOf(template, seen, observed.infra?.startedAt, memory);
  const isInfraUp = observed.infra?.state === "running";
  const reason = containerReason(standing) ?? standing.known.outOfMemory ?? null;
  return { ready: isInfraUp && isReady(standing), reason };
}

function endReason(name: string, seen: ObservedContainer): Reason {
  const why = seen.oomKilled ? ` (out of memory${memoryOf(seen)})` : "";
  return {
    code: seen.oomKilled ? "out-of-memory" : "container-exited",
    text: `"${name}" ended with exit code ${seen.exitCode ?? "unknown"}${why}`,
    phase: "run",
    ...(seen.finishedAt === undefined ? {} : { at: new Date(seen.finishedAt).toISOString() }),
  };
}

function unhealthyReason(name: string, known: Readonly<ContainerMemory>): Reason {
  const detail = known.probeDetail ?? "no probe has succeeded yet";
  return {
    code: "not-healthy",
    text: cutText(`"${name}" is not healthy: ${detail}`, 2_000),
    phase: "health",
  };
}
