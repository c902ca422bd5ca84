import {
  MEMORY_HOLDERS_PER_HOST_MAX,
  memoryHolderSchema,
} from "../../contracts/agent-protocol/memory-holder.ts";
import { VOLUMES_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import { IMAGES_PER_HOST_MAX, imageReferenceSchema } from "../../contracts/agent-protocol/sync.ts";
import {
  type ReportedVolume,
  reportedVolumeSchema,
  type UnreadableVolume,
  unreadableVolumeSchema,
} from "../../contracts/api/volumes.ts";

/**
 * Filters names that other programs chose: images, cgroups, volumes. The control plane refuses a
 * whole report with one invalid name, and then each later report, too.
 */

export function reportableImages(images: readonly string[]): string[] {
  return images
    .filter((reference) => imageReferenceSchema.safeParse(reference).success)
    .slice(0, IMAGES_PER_HOST_MAX);
}

export function reportableMemory(
  bytesByHolder: Readonly<Record<string, number>>,
): Record<string, number> {
  const named = Object.entries(bytesByHolder).filter(
    ([name]) => memoryHolderSchema.safeParse(name).success,
  );
  return Object.fromEntries(named.slice(0, MEMORY_HOLDERS_PER_HOST_MAX));
}

/**
 * A volume that the report cannot describe stays with its id only, or as null if its id is invalid.
 * The control plane takes a report without null as complete, and deletes its records of all other
 * volumes of the host (I12).
 */
export function reportableVolumes(
  volumes: readonly (ReportedVolume | UnreadableVolume)[],
): (ReportedVolume | UnreadableVolume | null)[] {
  const entries = volumes.map((volume) => {
    if (reportedVolumeSchema.safeParse(volume).success) return volume;
    const unreadable = { volumeId: volume.volumeId };
    return unreadableVolumeSchema.safeParse(unreadable).success ? unreadable : null;
  });
  if (entries.length <= VOLUMES_PER_HOST_MAX) return entries;
  return [...entries.slice(0, VOLUMES_PER_HOST_MAX - 1), null];
}
