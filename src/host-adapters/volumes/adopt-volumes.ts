import type { Log } from "../../lib/log.ts";
import { type BlockStore, volumeError } from "./block-store.ts";

/**
 * Transfers all trashed volumes of a store to another host. Rejects if a volume is still in use,
 * after it has transferred the others. Volumes with unreadable tags stay as they are.
 * @param store opened for the host that has the volumes
 */
export async function adoptVolumes(
  store: BlockStore,
  { hostId, log }: { hostId: string; log: Log },
  signal: AbortSignal,
): Promise<void> {
  const { volumes, unreadable } = await store.list(signal);
  if (unreadable.length > 0) log.warn({ volumeIds: unreadable }, "cannot adopt unreadable volumes");
  for (const volume of volumes.filter(({ tags }) => tags.state === "trashed")) {
    await store.transfer(volume, hostId, signal);
    log.info({ volumeId: volume.volumeId }, "adopted a volume of a deleted host");
  }
  const used = volumes.find(({ tags }) => tags.state !== "trashed");
  if (used === undefined) return;
  const text = `volume ${used.volumeId} of a deleted host is still in use`;
  throw volumeError("volume-busy", text, { temporary: true });
}
