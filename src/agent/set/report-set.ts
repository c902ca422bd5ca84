import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import type { ContainerStatus } from "../../contracts/api/sets.ts";
import { recallCompleted } from "./completed-containers.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { computeStatuses, judgeContainer } from "./container-status.ts";
import type { Verdict } from "./steps.ts";
import { isSizeRefused } from "./resize-history.ts";
import { areLimitsApplied } from "../model/set-limits.ts";
import { type DesiredLocalSet, findGivenUp, type SetHistory } from "./set-history.ts";
import type { ReportedState } from "../model/set-state.ts";

/**
 * Builds the report of a set. `state` is the verdict's state within the transition table.
 * `isFresh`: the observation is current.
 */
export function reportSet(
  desired: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  { state, verdict, isFresh }: { state: ReportedState; verdict: Verdict; isFresh: boolean },
): ObservedSet {
  const recalled = observed && recallCompleted(desired, observed, history);
  return {
    setId: desired.setId,
    generation: desired.generation,
    state,
    ready: verdict.ready && state === "running",
    reason: verdict.reason,
    gaveUp: state === "failed" && findGivenUp(history) !== undefined,
    address: observed?.address ?? null,
    // The control plane releases capacity on this flag, so an outdated observation reports false.
    sized: isFresh && (observed === undefined || areLimitsApplied(desired.template, observed)),
    sizeRefused: isSizeRefused(history),
    containers: state === "absent" ? [] : reportContainers(desired, recalled, history),
  };
}

function reportContainers(
  desired: DesiredLocalSet,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
): ContainerStatus[] {
  const statuses = computeStatuses(desired, observed, history);
  return statuses.map((status) => {
    const { name, seen, known } = status;
    const { ready, reason } = judgeContainer(status, observed);
    const { rootfs } = known;
    return {
      name,
      state: seen?.state ?? "absent",
      ready,
      dockerId: seen?.dockerId ?? null,
      restarts: known.restarts,
      oomKills: known.oomKills,
      rootfsUsedBytes: rootfs && rootfs.dockerId === seen?.dockerId ? rootfs.usedBytes : null,
      exitCode: (seen?.state === "running" ? known.exitCode : seen?.exitCode) ?? null,
      startedAt: seen?.startedAt === undefined ? null : toIso(seen.startedAt),
      reason,
    };
  });
}

/** Truncates Docker's nanoseconds to milliseconds. */
function toIso(time: string): string {
  return new Date(time).toISOString();
}
