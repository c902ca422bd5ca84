import { mkdir, open, readdir, readFile, rename, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { CommandError, runCommand } from "../../exec.ts";
import {
  type BlockListing,
  type BlockRoom,
  type BlockStore,
  type BlockVolume,
  checkSize,
  checkTags,
  checkVolumeId,
  type VolumeTags,
  volumeError,
} from "./block-store.ts";

const losetup = "/usr/sbin/losetup";
const fallocate = "/usr/bin/fallocate";
const losetupTimeoutMs = 20_000;
const fallocateTimeoutMs = 120_000;

const storedTags = z.object({
  hostId: z.string(),
  setId: z.string(),
  tenant: z.string(),
  service: z.string(),
  generation: z.number().int(),
  state: z.enum(["new", "live", "trashed"]),
  growingFromBytes: z.number().optional(),
  trashedAtMs: z.number().optional(),
  expiresAtMs: z.number().optional(),
});

export interface LoopStoreOptions {
  hostId: string;
  /** Where the images lie; a folder of this agent's own. */
  folder: string;
  /** How much of the file system volumes may take together. */
  totalBytes: number;
}

/**
 * Volumes as image files behind loop devices, for hosts without device mapper. An image's blocks are allocated when it is
 * made, so the limit is as hard, and the room as certain, as a logical volume's. Tags lie in a file beside the image;
 * an image without one was never finished.
 */
export function createLoopStore(options: LoopStoreOptions): BlockStore {
  return new LoopStore(options);
}

class LoopStore implements BlockStore {
  readonly hasImages = true;
  readonly #options: LoopStoreOptions;
  #swept: Promise<void> | undefined;

  constructor(options: LoopStoreOptions) {
    this.#options = options;
  }

  async list(): Promise<BlockListing> {
    const ids = await this.#idsOf(/^(vol_[0-9a-z]+)\.json$/);
    const read = await Promise.all(ids.map((volumeId) => this.#read(volumeId)));
    return {
      volumes: read.filter((volume) => typeof volume === "object"),
      unreadable: ids.filter((_id, position) => read[position] === "unreadable"),
    };
  }

  async create(volume: BlockVolume, signal: AbortSignal): Promise<void> {
    const volumeId = checkVolumeId(volume.volumeId);
    checkTags(volume.tags);
    await this.#prepareFolder();
    if (await exists(this.#imageOf(volumeId))) {
      throw volumeError("volume-foreign", `${this.#imageOf(volumeId)} is there already`, {
        temporary: false,
      });
    }
    await this.#assertRoom(volume.sizeBytes, signal);
    const unfinished = `${this.#imageOf(volumeId)}.new`;
    await rm(unfinished, { force: true });
    try {
      await this.#allocate(unfinished, checkSize(volume.sizeBytes), signal);
    } catch (error) {
      await rm(unfinished, { force: true });
      throw error;
    }
    // With its tags in place first, an image that is there is a volume.
    await this.#writeTags(volumeId, volume.tags);
    await rename(unfinished, this.#imageOf(volumeId));
    await syncFolder(this.#options.folder);
  }

  async retag({ volumeId }: BlockVolume, tags: VolumeTags): Promise<void> {
    await this.#writeTags(checkVolumeId(volumeId), tags);
  }

  async grow(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const image = this.#imageOf(checkVolumeId(volumeId));
    const { size } = await stat(image);
    if (size < checkSize(sizeBytes)) {
      await this.#assertRoom(sizeBytes - size, signal);
      await this.#allocate(image, sizeBytes, signal);
    }
    const device = await this.#deviceOf(image, signal);
    if (device !== undefined) await this.#losetup(["--set-capacity", device], signal);
  }

  async attach(volumeId: string, signal: AbortSignal): Promise<string> {
    const image = this.#imageOf(checkVolumeId(volumeId));
    const device = await this.#deviceOf(image, signal);
    if (device === undefined)
      return (await this.#losetup(["--find", "--show", "--", image], signal)).trim();
    await this.#losetup(["--set-capacity", device], signal); // a crash may have come before it
    return device;
  }

  async detach(volumeId: string, signal: AbortSignal): Promise<void> {
    const device = await this.#deviceOf(this.#imageOf(checkVolumeId(volumeId)), signal);
    if (device !== undefined) await this.#losetup(["--detach", device], signal);
  }

  async remove(volumeId: string, signal: AbortSignal): Promise<void> {
    await this.detach(volumeId, signal);
    await rm(this.#imageOf(volumeId), { force: true });
    await rm(this.#tagsOf(volumeId), { force: true });
    await syncFolder(this.#options.folder);
  }

  /** Free is what is left of the share, or of the file system, whichever is less. What cannot be read takes room all the same. */
  async room(): Promise<BlockRoom> {
    const { folder, totalBytes } = this.#options;
    await this.#prepareFolder();
    const ids = await this.#idsOf(/^(vol_[0-9a-z]+)\.img$/);
    const sizes = await Promise.all(ids.map((id) => stat(this.#imageOf(id)).catch(noneWhenGone)));
    const { bavail, bsize } = await statfs(folder);
    const usedBytes = sizes.reduce((sum, file) => sum + (file?.size ?? 0), 0);
    const freeBytes = Math.max(0, Math.min(totalBytes - usedBytes, bavail * bsize));
    return { totalBytes, usedBytes, freeBytes };
  }

  /** Nothing is made before it resolves, so the first call finds nothing that is under way. */
  async #prepareFolder(): Promise<void> {
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    await (this.#swept ??= this.#sweep());
  }

  /** What an earlier life of the agent left unfinished takes room and is of no use. */
  async #sweep(): Promise<void> {
    const { folder } = this.#options;
    const left = (await readdir(folder)).filter((name) => /^vol_[0-9a-z]+\.img\.new$/.test(name));
    await Promise.all(left.map((name) => rm(join(folder, name), { force: true })));
  }

  async #idsOf(pattern: RegExp): Promise<string[]> {
    const names = await readdir(this.#options.folder).catch(emptyWhenMissing);
    return names.flatMap((name) => pattern.exec(name)?.[1] ?? []).sort();
  }

  #imageOf(volumeId: string): string {
    return join(this.#options.folder, `${volumeId}.img`);
  }

  #tagsOf(volumeId: string): string {
    return join(this.#options.folder, `${volumeId}.json`);
  }

  async #writeTags(volumeId: string, tags: VolumeTags): Promise<void> {
    const { folder, hostId } = this.#options;
    const path = this.#tagsOf(volumeId);
    const unfinished = `${path}.new`;
    const file = await open(unfinished, "w", 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ hostId, ...checkTags(tags) })}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
    await syncFolder(folder);
  }

  /** Undefined: there is no image, or it is not this host's. Whose it is when its tags cannot be read, nobody knows. */
  async #read(volumeId: string): Promise<BlockVolume | "unreadable" | undefined> {
    try {
      const { size } = await stat(this.#imageOf(volumeId));
      const text = await readFile(this.#tagsOf(volumeId), "utf8");
      const { hostId, ...tags } = storedTags.parse(JSON.parse(text));
      if (hostId !== this.#options.hostId) return undefined;
      return { volumeId, sizeBytes: size, tags: checkTags(tags) };
    } catch (error) {
      return codeOf(error) === "ENOENT" ? undefined : "unreadable";
    }
  }

  async #assertRoom(sizeBytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { freeBytes } = await this.room();
    if (freeBytes < sizeBytes) throw noRoom(sizeBytes, freeBytes);
  }

  /** Blocks are taken now, not when they are written. */
  async #allocate(path: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const args = ["--length", String(sizeBytes), "--", path];
    try {
      await runCommand(fallocate, args, { timeoutMs: fallocateTimeoutMs, signal });
    } catch (error) {
      const isFull = error instanceof CommandError && /no space/i.test(error.stderrTail);
      throw isFull ? noRoom(sizeBytes, 0, error) : failed(error);
    }
  }

  /** The loop device of an image, if it has one. */
  async #deviceOf(image: string, signal: AbortSignal): Promise<string | undefined> {
    const output = await this.#losetup(
      ["--associated", image, "--noheadings", "--output", "NAME"],
      signal,
    );
    return output.split("\n")[0]?.trim() || undefined;
  }

  async #losetup(args: readonly string[], signal: AbortSignal): Promise<string> {
    return runCommand(losetup, args, { timeoutMs: losetupTimeoutMs, signal }).catch(
      (error: unknown) => {
        throw failed(error);
      },
    );
  }
}

function noRoom(wantedBytes: number, freeBytes: number, cause?: unknown): Error {
  return volumeError(
    "volume-no-room",
    `there is no room for ${wantedBytes} bytes more of volumes on this host, ${freeBytes} are free`,
    { temporary: true, cause },
  );
}

function failed(error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  return volumeError("volume-failed", error.message, { temporary: true, cause: error });
}

/** A rename is on the disk when its folder is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function emptyWhenMissing(error: unknown): string[] {
  if (codeOf(error) === "ENOENT") return [];
  throw error;
}

function noneWhenGone(error: unknown): undefined {
  if (codeOf(error) !== "ENOENT") throw error;
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | undefined)?.code;
}
