import type { ObservedLocalSet } from "./ports/set-port.ts";
import { changeContainer, type DesiredLocalSet, type SetMemory } from "./set-memory.ts";

/** A use is news when it moved by more than this share of what the set may have. */
const NEWS_SHARE = 0.01;

/**
 * Takes note of what a set's containers have written to their root file systems, by Docker id: nothing limits that on most
 * file systems, so it is measured. `stops`: a set over its `rootfs` is stopped, and stays so in this generation. True: there is
 * something to report.
 */
export function noteRootfs(
  memory: SetMemory,
  { desired, observed }: { desired: DesiredLocalSet; observed: ObservedLocalSet | undefined },
  measured: { usedBytes: ReadonlyMap<string, number>; stops: boolean; nowMs: number },
): boolean {
  const { rootfsBytes } = desired.template;
  let isNews = false;
  let totalBytes = 0;
  const parts: string[] = [];
  for (const { name, dockerId } of observed?.containers ?? []) {
    const usedBytes = measured.usedBytes.get(dockerId);
    if (usedBytes === undefined) continue; // made since then
    totalBytes += usedBytes;
    parts.push(`"${name}" ${usedBytes}`);
    const known = changeContainer(memory, name);
    const moved = Math.abs(usedBytes - (known.rootfs?.usedBytes ?? Infinity));
    if (known.rootfs?.dockerId === dockerId && moved <= rootfsBytes * NEWS_SHARE) continue;
    known.rootfs = { dockerId, usedBytes };
    isNews = true;
  }
  const wasOver = memory.overRootfs !== undefined;
  if (totalBytes <= rootfsBytes || desired.desired !== "running") {
    if (memory.overRootfs?.isStopped) return isNews;
    memory.overRootfs = undefined;
    return isNews || wasOver;
  }
  if (wasOver) return isNews;
  const advice = measured.stops
    ? "; it was stopped: restart it to begin with empty ones, or give its template more"
    : "";
  memory.overRootfs = {
    reason: {
      code: "rootfs-exceeded",
      text: `the containers have written ${totalBytes} bytes to their root file systems (${parts.join(", ")}), the set may have ${rootfsBytes}${advice}`,
      phase: "run",
      at: new Date(measured.nowMs).toISOString(),
    },
    isStopped: measured.stops,
  };
  return true;
}
