import { INFRA_CONTAINER } from "../model/container-names.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { isOutdated } from "../model/outdated.ts";
import { areLimitsApplied } from "../model/set-limits.ts";
import type { ReportedState } from "../model/set-state.ts";
import { listDeletedCompleted, recallCompleted } from "./completed-containers.ts";
import { readContainerHistory } from "./container-history.ts";
import { hasExited } from "./container-run.ts";
import { decideContainers } from "./decide-containers.ts";
import { findDrainedAtMs } from "./drain.ts";
import { nextPreparationAtMs, repeatedPreparationReason } from "./preparations.ts";
import { exitReason } from "./reasons.ts";
import { type DesiredLocalSet, findGivenUp, type SetHistory } from "./set-history.ts";
import {
  isAnyUp,
  noStep,
  stepWhenDue,
  takeDue,
  type TimedStep,
  timedPull,
  type Verdict,
} from "./steps.ts";

/**
 * Compares the desired with the observed state and returns the next step of each lane and the
 * report. Pure: equal arguments give an equal verdict. `desired` is undefined if the control plane
 * does not name the set.
 *
 * It decides by the observation, not by earlier steps, so any step may be lost. A crash between two
 * steps, a foreign `docker stop` and a restarted agent look the same.
 *
 * Containers start in the order of their index. One run of the infra container is one start of the
 * set. Containers that have not run in it are started in order; others follow their restart policy.
 * A container that fails delays only those with a higher index that have not started yet.
 *
 * Before it stops or replaces a container that clients use, the set reports that it is not ready
 * and waits for its drain time.
 */
export function reconcile(
  desired: DesiredLocalSet | undefined,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  nowMs: number,
): Verdict {
  const drainedAtMs = findDrainedAtMs(desired, observed, history.readiness, nowMs);
  if (desired === undefined || desired.desired === "deleted") {
    return observed
      ? stepWhenDue({ kind: "remove" }, "stopping", history, { nowMs, drainedAtMs })
      : noStep("absent");
  }
  if (desired.desired === "stopped") {
    return isAnyUp(observed)
      ? stepWhenDue({ kind: "stop-all" }, "stopping", history, { nowMs, drainedAtMs })
      : verdictWhileStopped(desired, observed, "stopped", history, nowMs);
  }
  const givenUp = findGivenUp(history);
  if (givenUp) return { ...noStep("failed"), reason: givenUp.failure ?? null };
  if (history.overRootfs?.isStopped) {
    const { reason } = history.overRootfs;
    const verdict = isAnyUp(observed)
      ? stepWhenDue({ kind: "stop-all" }, "failed", history, { nowMs })
      : verdictWhileStopped(desired, observed, "failed", history, nowMs);
    return { ...verdict, reason };
  }
  return needsPreparation(desired, observed)
    ? decidePreparation(desired, observed, history, { nowMs, drainedAtMs })
    : decideContainers(desired, recallCompleted(desired, observed, history), history, {
        nowMs,
        drainedAtMs,
      });
}

/** The verdict on any set of a deleted host: it stops, and nothing is removed (I3). */
export function reconcileFenced(
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  nowMs: number,
): Verdict {
  if (!isAnyUp(observed)) return noStep("stopped");
  return stepWhenDue({ kind: "stop-all", isUrgent: true }, "stopping", history, { nowMs });
}

/** The verdict on a set that cannot be observed, and that should not run. It needs only a list. */
export function reconcileUnseen(
  desired: "stopped" | "deleted",
  history: SetHistory,
  due: { nowMs: number; drainedAtMs: number },
): Verdict {
  const kind = desired === "deleted" ? "remove" : "stop-all";
  return stepWhenDue({ kind }, "stopping", history, due);
}

/**
 * Verdict on a set that does not run. It is resized all the same, because its host reserves
 * capacity for its next start.
 */
function verdictWhileStopped(
  set: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  state: ReportedState,
  history: SetHistory,
  nowMs: number,
): Verdict {
  if (!observed || areLimitsApplied(set.template, observed)) return noStep(state);
  const { retryAtMs, failure } = history.resize;
  const due = takeDue([{ step: { kind: "resize" }, atMs: retryAtMs }], nowMs);
  return { ...due, state, ready: false, isComplete: false, reason: failure ?? null };
}

/** False if infra runs and is up to date, and no other containers than the template's exist. */
function needsPreparation(
  set: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
): observed is undefined {
  const infra = observed?.infra;
  if (infra?.isUnknown) return false;
  if (!infra || infra.state !== "running" || isOutdated(set, INFRA_CONTAINER, infra)) return true;
  const names = new Set(set.template.containers.map(({ name }) => name));
  return observed.containers.some(({ name }) => !names.has(name));
}

function decidePreparation(
  set: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  { nowMs, drainedAtMs }: { nowMs: number; drainedAtMs: number },
): Verdict {
  const completed = listDeletedCompleted(set, observed, history);
  const pulls = set.template.containers.flatMap(({ name }) => timedPull(name, history) ?? []);
  const { attempts, preparations, awaitsImages } = history;
  const restartAtMs = readContainerHistory(history, INFRA_CONTAINER).restartAtMs;
  const infra = observed?.infra;
  const prepare: TimedStep = {
    step: { kind: "prepare", ...(completed.length > 0 ? { completed } : {}) },
    atMs: Math.max(
      attempts.retryAtMs,
      restartAtMs,
      nextPreparationAtMs(preparations),
      // Without infra, no client reaches the set.
      infra?.state === "running" ? drainedAtMs : -Infinity,
    ),
  };
  const due = takeDue(awaitsImages && pulls.length > 0 ? pulls : [...pulls, prepare], nowMs);
  const failure =
    attempts.failure ??
    set.template.containers
      .map(({ name }) => readContainerHistory(history, name).attempts.failure)
      .find((reason) => reason !== undefined);
  const reason =
    failure ??
    repeatedPreparationReason(preparations, "the set") ??
    (infra && history.hasRun && hasExited(infra) ? exitReason(infra) : null);
  const state = history.hasRun ? "running" : "preparing";
  return { ...due, state, ready: false, isComplete: false, reason };
}
