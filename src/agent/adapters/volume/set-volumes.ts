import { assert } from "../../../lib/assert.ts";
import type { LocalSetSpec } from "../../ports/set-port.ts";
import type { VolumePort, VolumeSpec } from "../../ports/volume-port.ts";

/** The volumes of sets, as who runs their containers needs them. */
export interface SetVolumes {
  dataPathOf(set: LocalSetSpec): string;
  ensure(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  trash(setId: string, signal: AbortSignal): Promise<void>;
  /** Whether a set has a volume that is not trashed. */
  has(setId: string, signal: AbortSignal): Promise<boolean>;
  /** Bytes of a set's volume; 0 while it is being made. */
  sizeOf(setId: string, signal: AbortSignal): Promise<number | undefined>;
  /** Looks at all volumes anew. Ids of the sets that have one which is not trashed. */
  reload(signal: AbortSignal): Promise<string[]>;
}

/**
 * Remembers which sets have a volume: every look at a set asks, LVM takes tens of milliseconds to answer, and nobody else gives
 * or takes a set's volume. The look at the whole host corrects it all the same.
 */
export function createSetVolumes(port: VolumePort): SetVolumes {
  let known: Promise<Map<string, number>> | undefined;
  const load = async (signal: AbortSignal) => {
    const volumes = await port.list(signal);
    const live = volumes.filter(({ state }) => state === "live");
    return new Map(live.map(({ setId, sizeBytes }) => [setId, sizeBytes]));
  };
  const reload = (signal: AbortSignal) => {
    known = load(signal);
    known.catch(() => {
      known = undefined;
    });
    return known;
  };
  return {
    dataPathOf: (set) => port.dataPathOf(specOf(set)),
    async ensure(set, signal) {
      const spec = specOf(set);
      const sizes = await (known ?? reload(signal));
      sizes.set(set.setId, sizes.get(set.setId) ?? 0);
      await port.ensure(spec, signal);
      sizes.set(set.setId, Math.max(sizes.get(set.setId) ?? 0, spec.sizeBytes));
    },
    async trash(setId, signal) {
      await port.trash(setId, signal);
      (await known)?.delete(setId);
    },
    has: async (setId, signal) => (await (known ?? reload(signal))).has(setId),
    sizeOf: async (setId, signal) => (await (known ?? reload(signal))).get(setId),
    reload: async (signal) => [...(await reload(signal)).keys()],
  };
}

function specOf(set: LocalSetSpec): VolumeSpec {
  const { setId, tenant, service, generation, template, restoreVolumeId } = set;
  assert(template.volume, "only sets with a volume have one");
  return {
    setId,
    tenant,
    service,
    generation,
    sizeBytes: template.volume.sizeBytes,
    restoreFrom: restoreVolumeId ?? undefined,
  };
}
