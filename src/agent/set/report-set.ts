import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import type { ContainerStatus } from "../../contracts/api/sets.ts";
import { recallCompleted } from "./completed-containers.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { judgeContainer, type Verdict } from "./reconcile.ts";
import { isSizeRefused } from "./resize-history.ts";
import { areLimitsApplied } from "../model/set-limits.ts";
import { containerHistory } from "./container-history.ts";
import type { SetHistory } from "./set-history.ts";
import type { ReportedState } from "../model/set-state.ts";

/**
 * Builds the report of a set. `state` is the verdict's state within the transition table. `isSeen`:
 * the observation is current.
 */
export function reportSet(
  desired: DesiredSet,
  observed: ObservedLocalSet | undefined,
  history: SetHistory,
  { state, verdict, isSeen }: { state: ReportedState; verdict: Verdict; isSeen: boolean },
): ObservedSet {
  const recalled = observed && recallCompleted(desired, observed, history);
  return {
    setId: desired.setId,
    generation: desired.generation,
    state,
    ready: verdict.ready && state === "running",
    reason: verdict.reason,
    gaveUp: state === "failed" && history.gaveUp,
    address: observed?.address ?? null,
    // The control plane releases capacity on this flag, so an outdated observation reports false.
    sized: isSeen && (observed === undefined || areLimitsApplied(desired.template, observed)),
    sizeRefused: isSizeRefused(history),
    containers:
      state === "absent"
        ? []
        : desired.template.containers.map((template): ContainerStatus => {
            const { name } = template;
            const seen = recalled?.containers.find((candidate) => candidate.name === name);
            const known = containerHistory(history, name);
            const judged = recalled ? judgeContainer(template, recalled, history) : undefined;
            return {
              name,
              state: seen?.state ?? "absent",
              ready: judged?.ready ?? false,
              dockerId: seen?.dockerId ?? null,
              restarts: known.restarts,
              oomKills: known.oomKills,
              rootfsUsedBytes:
                known.rootfs && known.rootfs.dockerId === seen?.dockerId
                  ? known.rootfs.usedBytes
                  : null,
              exitCode: (seen?.state === "running" ? known.exitCode : seen?.exitCode) ?? null,
              startedAt: seen?.startedAt === undefined ? null : toIso(seen.startedAt),
              reason: judged?.reason ?? null,
            };
          }),
  };
}

/** Truncates Docker's nanoseconds to milliseconds. */
function toIso(time: string): string {
  return new Date(time).toISOString();
}
