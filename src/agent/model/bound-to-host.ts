import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { ObservedLocalSet } from "./local-set.ts";

/**
 * True if the agent must retry here and not give the set up. This is so if the set has data here,
 * or if its containers run and some spec of it has run here.
 * @param hasRunBefore whether any spec of the set has run here
 */
export function isBoundToHost(
  desired: DesiredSet | undefined,
  observed: ObservedLocalSet | undefined,
  hasRunBefore: () => boolean,
): boolean {
  const isUp = observed?.containers.some(({ state }) => state === "running") ?? false;
  if (isUp && hasRunBefore()) return true;
  if (!desired?.template.volume) return false;
  return desired.restoreVolumeId !== null || (observed?.volumeBytes ?? 0) > 0 || hasRunBefore();
}
