import { describeBytes } from "../../lib/text/describe-bytes.ts";
import type { ObservedLocalSet } from "../model/local-set.ts";
import { ensureContainerHistory } from "./container-history.ts";
import { type DesiredLocalSet, type SetHistory, computeSpecKey } from "./set-history.ts";

/** A change of usage is reported if it exceeds this share of the set's `rootfs`. */
const REPORTED_CHANGE_SHARE = 0.01;

/**
 * Records the bytes that a set's containers have written to their root file systems, by Docker id.
 * Most file systems cannot limit these bytes, so the agent measures them. `stops`: a set over its
 * `rootfs` is stopped until its containers are replaced, for example by a restart. Returns true if
 * there is a change to report.
 */
export function noteRootfs(
  history: SetHistory,
  { desired, observed }: { desired: DesiredLocalSet; observed: ObservedLocalSet | undefined },
  measured: { usedBytes: ReadonlyMap<string, number>; stops: boolean; wallMs: number },
): boolean {
  const { rootfsBytes } = desired.template;
  let hasChanged = false;
  let totalBytes = 0;
  const parts: string[] = [];
  const names = new Set(desired.template.containers.map(({ name }) => name));
  for (const { name, dockerId, specHash: hash } of observed?.containers ?? []) {
    const usedBytes = measured.usedBytes.get(dockerId);
    if (usedBytes === undefined) continue; // created after the measurement
    if (!names.has(name) || hash !== desired.specHashes[name]) continue; // about to be replaced
    totalBytes += usedBytes;
    parts.push(`"${name}" ${describeBytes(usedBytes)}`);
    const known = ensureContainerHistory(history, name);
    const moved = Math.abs(usedBytes - (known.rootfs?.usedBytes ?? Infinity));
    if (known.rootfs?.dockerId === dockerId && moved <= rootfsBytes * REPORTED_CHANGE_SHARE)
      continue;
    known.rootfs = { dockerId, usedBytes };
    hasChanged = true;
  }
  const wasOver = history.overRootfs !== undefined;
  if (totalBytes <= rootfsBytes || desired.desired !== "running") {
    if (history.overRootfs?.isStopped) return hasChanged;
    history.overRootfs = undefined;
    return hasChanged || wasOver;
  }
  if (wasOver) return hasChanged;
  const advice = measured.stops
    ? " The set was stopped. `berth set restart` recreates its containers with empty root file systems and without the data in volumes of their images. A larger `rootfs` in the template applies to new sets only."
    : "";
  history.overRootfs = {
    reason: {
      code: "rootfs-exceeded",
      text: `The containers have written ${describeBytes(totalBytes)} to their root file systems and to volumes of their images (${parts.join(", ")}), more than the set's limit of ${describeBytes(rootfsBytes)}.${advice}`,
      phase: "run",
      at: new Date(measured.wallMs).toISOString(),
    },
    usedBytes: totalBytes,
    isStopped: measured.stops,
    specKey: computeSpecKey(desired),
  };
  return true;
}
