import { AgentError } from "../../agent-error.ts";
import type { VolumeRoom } from "../../ports/volume-port.ts";

/**
 * Block devices with tags, as the volume port needs them. A backend changes blocks and tags only; file systems, mounts and the
 * life of a volume are the same for all (volumes.ts). Each call is atomic: after a crash it has happened or it has not.
 */
export interface BlockStore {
  /** An image file: its blocks are allocated, and mkfs must leave them so. */
  readonly hasImages: boolean;
  /** This host's. */
  list(signal: AbortSignal): Promise<BlockListing>;
  /** Rejects with `volume-no-room`, or `volume-foreign` when the name is taken: by whomever, what they have is left alone. */
  create(volume: BlockVolume, signal: AbortSignal): Promise<void>;
  /** Gives a volume other tags than it was listed with. */
  retag(listed: BlockVolume, tags: VolumeTags, signal: AbortSignal): Promise<void>;
  /** Makes it at least so large, attached or not. */
  grow(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void>;
  /** The path of its device, which is there when it resolves. */
  attach(volumeId: string, signal: AbortSignal): Promise<string>;
  /** Nothing may have it mounted. */
  detach(volumeId: string, signal: AbortSignal): Promise<void>;
  /** Destroys it. */
  remove(volumeId: string, signal: AbortSignal): Promise<void>;
  room(signal: AbortSignal): Promise<BlockRoom>;
}

export interface BlockListing {
  /** By id. */
  volumes: BlockVolume[];
  /** Ids of those whose tags cannot be read: they are left alone, and others do not suffer for them. */
  unreadable: string[];
}

export type BlockRoom = Pick<VolumeRoom, "totalBytes" | "usedBytes" | "freeBytes">;

export interface BlockVolume {
  volumeId: string;
  sizeBytes: number;
  tags: VolumeTags;
}

/** What a host alone can say of a volume. */
export interface VolumeTags {
  setId: string;
  tenant: string;
  service: string;
  generation: number;
  /** new: it was never mounted, so its file system may be made (again). */
  state: "new" | "live" | "trashed";
  /** It is being grown: its file system fills so much of it, until it was told to fill the rest. */
  growingFromBytes?: number | undefined;
  trashedAtMs?: number | undefined;
  expiresAtMs?: number | undefined;
}

const idPattern = /^vol_[0-9a-z]{1,40}$/;
const namePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;
const setPattern = /^set_[0-9a-z]{1,40}$/;

export function isVolumeId(text: string): boolean {
  return idPattern.test(text);
}

/** Nothing from outside becomes a path, an argument or a tag before it was looked at here. */
export function checkVolumeId(volumeId: string): string {
  if (isVolumeId(volumeId)) return volumeId;
  throw invalid(`"${volumeId}" is not the id of a volume`);
}

export function checkTags(tags: VolumeTags): VolumeTags {
  if (!setPattern.test(tags.setId)) throw invalid(`"${tags.setId}" is not the id of a set`);
  for (const name of [tags.tenant, tags.service]) {
    if (!namePattern.test(name)) throw invalid(`"${name}" is not a name`);
  }
  const { generation, growingFromBytes = 0, trashedAtMs = 0, expiresAtMs = 0 } = tags;
  const numbers = [generation, growingFromBytes, trashedAtMs, expiresAtMs];
  if (!numbers.every((number) => Number.isSafeInteger(number) && number >= 0))
    throw invalid("a volume's generation, size and times are whole numbers");
  return tags;
}

export function checkSize(sizeBytes: number): number {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0) return sizeBytes;
  throw invalid(`${sizeBytes} is not a size in bytes`);
}

function invalid(message: string): AgentError {
  return new AgentError("volume-invalid", message, { phase: "volume", temporary: false });
}

/** What a person can put right, or time. */
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
