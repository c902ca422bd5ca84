import type { Log } from "../../../lib/log.ts";
import type { BlockStore, BlockVolume, VolumeTags } from "./block-store.ts";
import { growFileSystem, measureFileSystem, type MountedFileSystem } from "./file-systems.ts";

export interface GrowthContext {
  store: BlockStore;
  log: Log;
  mounted: MountedFileSystem;
  /** Grows the blocks by this much, after it has freed the space for them. */
  allocate: (moreBytes: number, take: () => Promise<void>) => Promise<void>;
}

/**
 * Grows a mounted volume to at least this size: first the blocks, then the file system online. It
 * never shrinks a volume that has the size. The tag `growingFromBytes` precedes the blocks, so a
 * later call continues after a crash. Returns the volume as it is stored, and the tags to
 * store now.
 *
 * A growth that fails returns the additional blocks, and rejects with its error. So does a growth
 * that crashed and is no longer wanted, but it never rejects.
 */
export async function growVolume(
  context: GrowthContext,
  volume: BlockVolume,
  wantedBytes: number,
  signal: AbortSignal,
): Promise<{ stored: BlockVolume; tags: VolumeTags }> {
  const { growingFromBytes, ...tags } = volume.tags;
  const isUnfinished = growingFromBytes !== undefined;
  if (volume.sizeBytes >= wantedBytes && !isUnfinished) return { stored: volume, tags };
  if (isUnfinished && growingFromBytes >= wantedBytes) {
    const stored = await returnBlocks(context, volume, signal);
    return { stored, tags: stored.tags };
  }
  try {
    const isLarger = volume.sizeBytes >= wantedBytes;
    const stored = isLarger ? volume : await growBlocks(context, volume, wantedBytes, signal);
    await growFileSystem(context.mounted, signal);
    return { stored, tags };
  } catch (error) {
    if (!signal.aborted) await returnBlocks(context, volume, signal);
    throw error;
  }
}

async function growBlocks(
  { store, allocate }: GrowthContext,
  volume: BlockVolume,
  wantedBytes: number,
  signal: AbortSignal,
): Promise<BlockVolume> {
  const { volumeId, sizeBytes } = volume;
  const tags = { ...volume.tags, growingFromBytes: volume.tags.growingFromBytes ?? sizeBytes };
  if (volume.tags.growingFromBytes === undefined) await store.retag(volume, tags, signal);
  await allocate(wantedBytes - sizeBytes, () => store.grow(volumeId, wantedBytes, signal));
  return { volumeId, sizeBytes: wantedBytes, tags };
}

/**
 * Returns the blocks beyond `growingFromBytes` to the store. It retains every block of the file
 * system, which may have grown in part. If the blocks remain, it logs the reason, and the next
 * growth uses them. Returns the volume as it is stored.
 */
async function returnBlocks(
  { store, log, mounted }: GrowthContext,
  volume: BlockVolume,
  signal: AbortSignal,
): Promise<BlockVolume> {
  const { volumeId } = volume;
  try {
    const { volumes } = await store.list(signal);
    const listed = volumes.find((candidate) => candidate.volumeId === volumeId);
    if (listed?.tags.growingFromBytes === undefined) return listed ?? volume;
    const { growingFromBytes, ...tags } = listed.tags;
    const sizeBytes = Math.max(growingFromBytes, await measureFileSystem(mounted, signal));
    if (sizeBytes < listed.sizeBytes) await store.shrink(volumeId, sizeBytes, signal);
    await store.retag(listed, tags, signal);
    return { volumeId, sizeBytes, tags };
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ err: error, volumeId }, "a failed growth left larger blocks");
    return volume;
  }
}
