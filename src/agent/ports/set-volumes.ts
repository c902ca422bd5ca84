import type { LocalSetSpec } from "../model/local-set.ts";

/**
 * The volumes of sets, as the set engine uses them. VolumePort has all volumes of the host,
 * trashed ones included.
 *
 * Reads never fail: while the volumes cannot be listed (for example without their group), they
 * return the last known values. So sets without a volume are not affected.
 */
export interface SetVolumes {
  /** The host's path of the set's data once `ensure` has resolved. */
  getDataPath(set: LocalSetSpec): string;
  /**
   * Creates or mounts the set's volume. It tries to grow a smaller one, but a set starts although
   * that fails: `resize` reports the reason.
   */
  ensure(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  /** Ensures that the volume has the size of the template. */
  resize(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  /** Rejects if the set may still have a volume outside the trash. */
  trash(setId: string, signal: AbortSignal): Promise<void>;
  /**
   * Bytes of a set's live volume; 0 while it is being created. Undefined if it has none, or if that
   * is unknown.
   */
  sizeOf(setId: string, signal: AbortSignal): Promise<number | undefined>;
  /** Lists all volumes again and returns the ids of sets with a volume outside the trash. */
  reload(signal: AbortSignal): Promise<string[]>;
}
