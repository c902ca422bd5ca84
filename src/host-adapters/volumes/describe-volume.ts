import type { LocalVolume } from "../../agent/ports/volume-port.ts";
import type { BlockVolume } from "./block-store.ts";
import { fileSystemUsage } from "./mounts.ts";
import { getRetention } from "./trash.ts";

/** Describes a volume for the port. The size is that of the file system while the blocks grow. */
export async function describeVolume(
  { volumeId, sizeBytes, tags }: BlockVolume,
  mountPoint: string,
  mounts: ReadonlyMap<string, string>,
): Promise<LocalVolume> {
  const { setId, tenant, service, state, growingFromBytes } = tags;
  const retention = getRetention(tags);
  const usedBytes = mounts.has(mountPoint)
    ? await fileSystemUsage(mountPoint).catch(() => undefined) // unmounted meanwhile
    : undefined;
  return {
    volumeId,
    setId,
    tenant,
    service,
    state,
    sizeBytes: growingFromBytes ?? sizeBytes,
    usedBytes,
    trashedAtMs: retention?.trashedAtMs,
    expiresAtMs: retention?.expiresAtMs,
  };
}
