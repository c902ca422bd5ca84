import {
  OTHER_HOSTS_MAX,
  type OtherHostVolumes,
  otherHostVolumesSchema,
} from "../../contracts/api/host-capabilities.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { VolumeCapacity } from "../../agent/ports/volume-port.ts";

/**
 * Block devices with tags, as the volume port needs them. A backend changes only blocks and tags.
 * File systems, mounts and the states of a volume are common to all backends (volumes.ts). Each
 * call is atomic: after a crash it has happened or it has not.
 */
export interface BlockStore {
  /** True if blocks belong to an image file. They are allocated, and mkfs must not discard them. */
  readonly hasImages: boolean;
  /** Lists the volumes of this host. */
  list(signal: AbortSignal): Promise<BlockListing>;
  /**
   * Rejects with `volume-no-room`, or with `volume-foreign` if the name is in use. It never changes
   * the other volume. With a full area for metadata it rejects, so that the rest of the area
   * suffices to trash and to purge volumes.
   */
  create(volume: BlockVolume, signal: AbortSignal): Promise<void>;
  /** Replaces the tags that the volume was listed with. */
  retag(listed: BlockVolume, tags: VolumeTags, signal: AbortSignal): Promise<void>;
  /**
   * Changes the host that a volume belongs to. Both hosts have been this machine. Afterwards the
   * store of the other host lists the volume, and this one does not.
   */
  transfer(listed: BlockVolume, hostId: string, signal: AbortSignal): Promise<void>;
  /** Grows a volume to at least this size, rounded up to the store's unit, attached or not. */
  grow(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void>;
  /**
   * Takes the blocks beyond this size, rounded up to the store's unit, attached or not. The caller
   * guarantees that no file system uses them.
   */
  shrink(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void>;
  /** Returns the path of the volume's device, which exists when the call resolves. */
  attach(volumeId: string, signal: AbortSignal): Promise<string>;
  /**
   * Detaches a volume that is not mounted. Resolves when it has no device. Rejects with
   * `volume-busy` while a process holds the device.
   */
  detach(volumeId: string, signal: AbortSignal): Promise<void>;
  /** Destroys a volume. Rejects with `volume-busy` while a process holds its device. */
  remove(volumeId: string, signal: AbortSignal): Promise<void>;
  capacity(signal: AbortSignal): Promise<BlockCapacity>;
}

export interface BlockListing {
  /** Sorted by id. */
  volumes: BlockVolume[];
  /**
   * Ids of volumes with unreadable tags. The store never changes them, and other volumes work on.
   */
  unreadable: string[];
  /** Other hosts that have volumes in the store, and their number: sorted, and at most 16. */
  otherHosts: OtherHostVolumes[];
}

export interface BlockCapacity extends Pick<
  VolumeCapacity,
  "totalBytes" | "usedBytes" | "freeBytes" | "isMetadataFull"
> {
  /** Volumes to remove before the store can record another one; 0 if it can. */
  recordsLacking: number;
}

export interface BlockVolume {
  volumeId: string;
  sizeBytes: number;
  tags: VolumeTags;
}

/** Facts about a volume that only its host knows. */
export interface VolumeTags {
  setId: string;
  tenant: string;
  service: string;
  generation: number;
  /** `new`: never mounted, so its file system may be created (again). */
  state: "new" | "live" | "trashed";
  /**
   * Size of the file system while the volume grows. It is cleared when the file system fills the
   * blocks.
   */
  growingFromBytes?: number | undefined;
  /** Of a trashed volume whose retention has started: times of the control plane. */
  trashedAtMs?: number | undefined;
  expiresAtMs?: number | undefined;
  /**
   * Equals `expiresAtMs` if the control plane's clock set it. Earlier releases set it by the host's
   * clock, and do not change this value.
   */
  expiryStampMs?: number | undefined;
}

/** @param hostIds the other host of each volume in the store that is not of this host */
export function countOtherHosts(hostIds: readonly string[]): OtherHostVolumes[] {
  const counts = new Map<string, number>();
  for (const hostId of hostIds.filter(
    (id) => otherHostVolumesSchema.shape.hostId.safeParse(id).success,
  ))
    counts.set(hostId, (counts.get(hostId) ?? 0) + 1);
  return [...counts]
    .map(([hostId, volumes]) => ({ hostId, volumes }))
    .sort((a, b) => (a.hostId < b.hostId ? -1 : 1))
    .slice(0, OTHER_HOSTS_MAX);
}

const idPattern = /^vol_[0-9a-z]{1,40}$/;
const namePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;
const setPattern = /^set_[0-9a-z]{1,40}$/;

export function isVolumeId(text: string): boolean {
  return idPattern.test(text);
}

/** Validates input before it becomes a path, an argument or a tag. */
export function checkVolumeId(volumeId: string): string {
  if (isVolumeId(volumeId)) return volumeId;
  throw invalid(`"${volumeId}" is not a volume id`);
}

export function checkTags(tags: VolumeTags): VolumeTags {
  if (!setPattern.test(tags.setId)) throw invalid(`"${tags.setId}" is not a set id`);
  for (const name of [tags.tenant, tags.service]) {
    if (!namePattern.test(name)) throw invalid(`"${name}" is not a name`);
  }
  const { generation, growingFromBytes = 0 } = tags;
  const { trashedAtMs = 0, expiresAtMs = 0, expiryStampMs = 0 } = tags;
  const numbers = [generation, growingFromBytes, trashedAtMs, expiresAtMs, expiryStampMs];
  if (!numbers.every((number) => Number.isSafeInteger(number) && number >= 0))
    throw invalid("a volume's generation, size and times must be whole numbers");
  return tags;
}

export function checkSize(sizeBytes: number): number {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0) return sizeBytes;
  throw invalid(`${sizeBytes} is not a size in bytes`);
}

function invalid(message: string): AgentError {
  return new AgentError("volume-invalid", message, { phase: "volume", temporary: false });
}

/** An error that an operator, or time, can correct. */
export function volumeError(
  code:
    | "volume-no-room"
    | "volume-foreign"
    | "volume-failed"
    | "volume-busy"
    | "volume-missing"
    | "volume-unreadable",
  message: string,
  options: { temporary: boolean; cause?: unknown },
): AgentError {
  return new AgentError(code, message, { phase: "volume", ...options });
}

export function unreadableTagsError(volumeId: string): AgentError {
  const text = `the tags of volume ${volumeId} cannot be read. Berth does not change the volume until they are corrected.`;
  return volumeError("volume-unreadable", text, { temporary: true });
}
