import type { ObservedLocalSet } from "./ports/set-port.ts";
import { changeContainer } from "./container-memory.ts";
import { type DesiredLocalSet, type SetMemory, specKeyOf } from "./set-memory.ts";
import { specHash } from "./spec-hash.ts";

/** A use is news when it moved by more than this share of what the set may have. */
const NEWS_SHARE = 0.01;

/**
 * Takes note of what a set's containers have written to their root file systems, by Docker id: nothing limits that on most
 * file systems, so it is measured. `stops`: a set over its `rootfs` is stopped, and stays so until its containers are made anew (which
 * a restart does). True: there is something to report.
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
  const names = new Set(desired.template.containers.map(({ name }) => name));
  for (const { name, dockerId, specHash: hash } of observed?.containers ?? []) {
    const usedBytes = measured.usedBytes.get(dockerId);
    if (usedBytes === undefined) continue; // made since then
    if (!names.has(name) || hash !== specHash(desired, name)) continue; // about to be made anew
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
    ? "; it was stopped: `berth set restart` begins with empty ones. What the service's template gives counts for sets that are made from then on"
    : "";
  memory.overRootfs = {
    reason: {
      code: "rootfs-exceeded",
      text: `the containers have written ${totalBytes} bytes to their root file systems (${parts.join(", ")}), the set may have ${rootfsBytes}${advice}`,
      phase: "run",
      at: new Date(measured.nowMs).toISOString(),
    },
    usedBytes: totalBytes,
    isStopped: measured.stops,
    specKey: specKeyOf(desired),
  };
  return true;
}
