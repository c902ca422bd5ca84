import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { ObservedLocalSet } from "./local-set.ts";

/**
 * True if the set has a volume here. On another host it would start empty, so the agent retries
 * here until it is moved.
 * @param hasRunBefore whether any spec of the set has run here
 */
export function isBoundToHost(
  desired: DesiredSet | undefined,
  observed: ObservedLocalSet | undefined,
  hasRunBefore: () => boolean,
): boolean {
  if (!desired?.template.volume) return false;
  return desired.restoreVolumeId !== null || (observed?.volumeBytes ?? 0) > 0 || hasRunBefore();
}
