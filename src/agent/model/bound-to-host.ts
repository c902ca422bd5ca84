import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { ObservedLocalSet } from "./local-set.ts";

/**
 * True if the set should not start on another host, so that the agent retries here until it is
 * moved. It has a volume here, without which it would start empty. Or its containers run, although
 * the present description cannot start.
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
