import { setTimeout as delay } from "node:timers/promises";
import { assert } from "../../../lib/assert.ts";
import type { Log } from "../../../lib/log.ts";
import type { LocalSetSpec } from "../../ports/set-port.ts";
import type { VolumePort, VolumeSpec } from "../../ports/volume-port.ts";

const lookTimeoutMs = 10_000;

/**
 * The volumes of sets, as who runs their containers needs them. What is known of them is asked without fear: when the volumes
 * cannot be looked at (their group is missing, say), it is what was known before, and sets without a volume go on.
 */
export interface SetVolumes {
  dataPathOf(set: LocalSetSpec): string;
  ensure(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  /** Rejects when the set has a volume, or may have, that is not in the trash afterwards. */
  trash(setId: string, signal: AbortSignal): Promise<void>;
  /** Bytes of a set's volume that is not trashed; 0 while it is being made. Undefined: it has none, or that is not known. */
  sizeOf(setId: string, signal: AbortSignal): Promise<number | undefined>;
  /** Looks at all volumes anew. Ids of the sets that have one which is not trashed. */
  reload(signal: AbortSignal): Promise<string[]>;
}

/**
 * Remembers which sets have a volume: every look at a set asks, LVM takes tens of milliseconds to answer, and nobody else gives
 * or takes a set's volume. The look at the whole host corrects it all the same.
 */
export function createSetVolumes(port: VolumePort, log: Log): SetVolumes {
  let sizes = new Map<string, number>();
  let isTried = false;
  /** What changes while the volumes are looked at is newer than what the look shows. */
  const changed = new Set<string>();
  let loading: Promise<void> | undefined;

  const load = async (signal: AbortSignal) => {
    changed.clear();
    const seen = new Map<string, number>();
    for (const { setId, state, sizeBytes } of await port.list(signal)) {
      if (state !== "trashed") seen.set(setId, state === "new" ? 0 : sizeBytes);
    }
    for (const setId of changed) {
      const size = sizes.get(setId);
      if (size === undefined) seen.delete(setId);
      else seen.set(setId, size);
    }
    sizes = seen;
  };
  /** False: they cannot be looked at now. */
  const look = async (signal: AbortSignal): Promise<boolean> => {
    loading ??= load(signal).finally(() => {
      loading = undefined;
    });
    const isLate = new AbortController();
    try {
      // What hangs goes on, and its answer counts when it comes.
      await Promise.race([loading, lateAfter(lookTimeoutMs, isLate.signal)]);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ err: error }, "volumes not looked at");
      return false;
    } finally {
      isTried = true;
      isLate.abort();
    }
  };
  const note = (setId: string, sizeBytes: number | undefined) => {
    changed.add(setId);
    if (sizeBytes === undefined) sizes.delete(setId);
    else sizes.set(setId, sizeBytes);
  };

  return {
    dataPathOf: (set) => port.dataPathOf(specOf(set)),
    async ensure(set, signal) {
      const spec = specOf(set);
      const sizeNow = () => sizes.get(set.setId) ?? 0;
      note(set.setId, sizeNow());
      await port.ensure(spec, signal);
      note(set.setId, Math.max(sizeNow(), spec.sizeBytes));
    },
    async trash(setId, signal) {
      try {
        await port.trash(setId, signal);
      } catch (error) {
        // Not even looked for, and nothing was known of one: should there be one after all, it is found as what is left of a set.
        if (sizes.has(setId) || (await look(signal))) throw error;
        log.warn({ err: error, setId }, "set removed without a look at its volume");
      }
      note(setId, undefined);
    },
    async sizeOf(setId, signal) {
      if (!isTried) await look(signal);
      return sizes.get(setId);
    },
    async reload(signal) {
      await look(signal);
      return [...sizes.keys()];
    },
  };
}

async function lateAfter(timeoutMs: number, signal: AbortSignal): Promise<never> {
  await delay(timeoutMs, undefined, { signal, ref: false });
  throw new Error(`the volumes could not be looked at within ${timeoutMs} ms`);
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
