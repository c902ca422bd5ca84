import { runAbortable } from "../../lib/async/abort.ts";
import { assert } from "../../lib/assert.ts";
import type { Log } from "../../lib/log.ts";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import type { SetVolumes } from "../../agent/ports/set-volumes.ts";
import type { VolumePort, VolumeSpec } from "../../agent/ports/volume-port.ts";

const listTimeoutMs = 10_000;

/**
 * Caches which sets have a volume. Every observation of a set asks, LVM takes tens of milliseconds,
 * and only the set engine changes a set's volume. The resync of the whole host corrects the cache
 * all the same.
 */
export function createSetVolumes(port: VolumePort, log: Log): SetVolumes {
  let sizes = new Map<string, number>();
  let isTried = false;
  /** Changes during a listing are newer than its result. */
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
  /** Returns false if the volumes cannot be listed now. */
  const tryLoad = async (signal: AbortSignal): Promise<boolean> => {
    loading ??= load(signal).finally(() => {
      loading = undefined;
    });
    const current = loading;
    try {
      // A listing that hangs continues, and its result counts when it arrives.
      await runAbortable(
        { deadline: { timeoutMs: listTimeoutMs, onLate: failLate } },
        () => current,
      );
      return true;
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ err: error }, "cannot list volumes");
      return false;
    } finally {
      isTried = true;
    }
  };
  const note = (setId: string, sizeBytes: number | undefined) => {
    changed.add(setId);
    if (sizeBytes === undefined) sizes.delete(setId);
    else sizes.set(setId, sizeBytes);
  };

  const ensure = async (spec: VolumeSpec, signal: AbortSignal) => {
    note(spec.setId, sizes.get(spec.setId) ?? 0);
    const { sizeBytes } = await port.ensure(spec, signal);
    note(spec.setId, sizeBytes);
  };

  return {
    getDataPath: (set) => port.getDataPath(toVolumeSpec(set)),
    ensure: (set, signal) => ensure({ ...toVolumeSpec(set), acceptsSmaller: true }, signal),
    resize: (set, signal) => ensure(toVolumeSpec(set), signal),
    async trash(setId, signal) {
      try {
        await port.trash(setId, signal);
      } catch (error) {
        // The volumes cannot be listed and none of this set was known. If it has one, a later
        // resync finds it as a remainder.
        if (sizes.has(setId) || (await tryLoad(signal))) throw error;
        log.warn({ err: error, setId }, "set removed without a check for its volume");
      }
      note(setId, undefined);
    },
    async sizeOf(setId, signal) {
      if (!isTried) await tryLoad(signal);
      return sizes.get(setId);
    },
    async reload(signal) {
      await tryLoad(signal);
      return [...sizes.keys()];
    },
  };
}

function failLate(): never {
  throw new Error(`the volumes were not listed within ${listTimeoutMs} ms`);
}

function toVolumeSpec(set: LocalSetSpec): VolumeSpec {
  const { setId, tenant, service, generation, template, restoreVolumeId } = set;
  assert(template.volume, "the set's template has a volume");
  return {
    setId,
    tenant,
    service,
    generation,
    sizeBytes: template.volume.sizeBytes,
    restoreFrom: restoreVolumeId ?? undefined,
  };
}
