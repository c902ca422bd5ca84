import type { DesiredSet, ObservedSet } from "../contracts/agent-protocol/protocol.ts";
import type { ContainerStatus } from "../contracts/api/sets.ts";
import type { ObservedLocalSet } from "./ports/set-port.ts";
import { judgeContainer, type Verdict } from "./reconcile.ts";
import { isSizeRefused } from "./resize-memory.ts";
import { isSized } from "./set-limits.ts";
import { containerMemory } from "./container-memory.ts";
import type { SetMemory } from "./set-memory.ts";
import type { ReportedState } from "./set-state.ts";

/**
 * What the control plane is told of a set. `state` is the verdict's, as far as the transition table lets it be; `isSeen`:
 * `observed` is what is there, and not only what was known of it.
 */
export function reportSet(
  desired: DesiredSet,
  observed: ObservedLocalSet | undefined,
  memory: SetMemory,
  { state, verdict, isSeen }: { state: ReportedState; verdict: Verdict; isSeen: boolean },
): ObservedSet {
  return {
    setId: desired.setId,
    generation: desired.generation,
    state,
    ready: verdict.ready && state === "running",
    reason: verdict.reason,
    gaveUp: state === "failed" && memory.gaveUp,
    address: observed?.address ?? null,
    // Berth gives room away on that word: what could not be looked at is not of its size.
    sized: isSeen && (observed === undefined || isSized(desired.template, observed)),
    sizeRefused: isSizeRefused(memory),
    containers:
      state === "absent"
        ? []
        : desired.template.containers.map((template): ContainerStatus => {
            const { name } = template;
            const seen = observed?.containers.find((candidate) => candidate.name === name);
            const known = containerMemory(memory, name);
            const judged = observed ? judgeContainer(template, observed, memory) : undefined;
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

/** Docker's nanoseconds, cut to the milliseconds that everything else has. */
function toIso(time: string): string {
  return new Date(time).toISOString();
}
