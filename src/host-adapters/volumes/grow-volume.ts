import type { Log } from "../../lib/log.ts";
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
 * The kernel grows a file system in one call that ignores signals. So it may still grow after its
 * program has failed, after a deadline, or after a restart of the agent. Without its blocks, data
 * is lost. Therefore a growth that fails leaves the blocks and the tag, and a later call retries
 * it, even if the size is no longer wanted. The blocks are returned only if the store fails to grow
 * the blocks of a volume without the tag. No growth of its file system can have begun.
 */
export async function growVolume(
  context: GrowthContext,
  volume: BlockVolume,
  wantedBytes: number,
  signal: AbortSignal,
): Promise<{ stored: BlockVolume; tags: VolumeTags }> {
  const { growingFromBytes, ...tags } = volume.tags;
  const isUnfinished = growingFromBytes !== undefined;
  const isLarger = volume.sizeBytes >= wantedBytes;
  if (isLarger && !isUnfinished) return { stored: volume, tags };
  // Even if there is no space for more, the set can use the blocks that it has.
  if (isUnfinished && !isLarger) await growFileSystem(context.mounted, signal);
  const stored = isLarger ? volume : await growBlocks(context, volume, wantedBytes, signal);
  try {
    await growFileSystem(context.mounted, signal);
    return { stored, tags };
  } catch (error) {
    const isWanted = !isUnfinished || growingFromBytes < wantedBytes;
    if (isWanted || signal.aborted) throw error;
    const { volumeId } = volume;
    context.log.warn({ err: error, volumeId }, "a growth that is no longer wanted is incomplete");
    return { stored, tags: stored.tags };
  }
}

async function growBlocks(
  context: GrowthContext,
  volume: BlockVolume,
  wantedBytes: number,
  signal: AbortSignal,
): Promise<BlockVolume> {
  const { store, allocate } = context;
  const { volumeId, sizeBytes } = volume;
  const isUnfinished = volume.tags.growingFromBytes !== undefined;
  const tags = { ...volume.tags, growingFromBytes: volume.tags.growingFromBytes ?? sizeBytes };
  try {
    if (!isUnfinished) await store.retag(volume, tags, signal);
    await allocate(wantedBytes - sizeBytes, () => store.grow(volumeId, wantedBytes, signal));
    return { volumeId, sizeBytes: wantedBytes, tags };
  } catch (error) {
    if (!isUnfinished && !signal.aborted) await returnBlocks(context, volume, signal);
    throw error;
  }
}

/**
 * Returns the blocks beyond `growingFromBytes` to the store. The caller guarantees that no growth
 * of the file system can be running. If the blocks remain, it logs the reason, and the next growth
 * uses them.
 */
async function returnBlocks(
  { store, log, mounted }: GrowthContext,
  { volumeId }: BlockVolume,
  signal: AbortSignal,
): Promise<void> {
  try {
    const { volumes } = await store.list(signal);
    const listed = volumes.find((candidate) => candidate.volumeId === volumeId);
    if (listed?.tags.growingFromBytes === undefined) return;
    const { growingFromBytes, ...tags } = listed.tags;
    // An earlier release may have cleared the tag of a file system that is larger.
    const sizeBytes = Math.max(growingFromBytes, await measureFileSystem(mounted, signal));
    if (sizeBytes < listed.sizeBytes) await store.shrink(volumeId, sizeBytes, signal);
    await store.retag(listed, tags, signal);
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ err: error, volumeId }, "a failed growth left larger blocks");
  }
}
