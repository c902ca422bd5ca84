import { mkdir, readdir, readFile, rename, rm, stat, statfs, truncate } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { CommandError, runCommand } from "../exec.ts";
import {
  type BlockListing,
  type BlockCapacity,
  type BlockStore,
  type BlockVolume,
  checkSize,
  checkTags,
  checkVolumeId,
  countOtherHosts,
  type VolumeTags,
  volumeError,
} from "./block-store.ts";
import { deviceBusy } from "./device-holders.ts";
import { ImageDisk, type ImageDiskOptions } from "./image-disk.ts";
import { syncFolder, writeDurably } from "./write-durably.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";

const losetup = "/usr/sbin/losetup";
const fallocate = "/usr/bin/fallocate";
const losetupTimeoutMs = 20_000;
const fallocateTimeoutMs = 120_000;
/** A program that inspects new devices, such as udev, holds a device for milliseconds. */
const detachLooksMax = 10;
const detachPollMs = 50;

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
  expiryStampMs: z.number().optional(),
});

export interface LoopStoreOptions extends ImageDiskOptions {
  /** The part of the file system that all volumes together may use. */
  totalBytes: number;
}

/**
 * Volumes as image files behind loop devices, for hosts without device mapper. An image's blocks
 * are allocated at its creation, so its limit is as hard as a logical volume's. Tags are in a file
 * beside the image; an image without one is unfinished.
 */
export function createLoopStore(options: LoopStoreOptions): BlockStore {
  return new LoopStore(options);
}

class LoopStore implements BlockStore {
  readonly hasImages = true;
  readonly #options: LoopStoreOptions;
  readonly #disk: ImageDisk;
  #swept: Promise<void> | undefined;

  constructor(options: LoopStoreOptions) {
    this.#options = options;
    this.#disk = new ImageDisk(options);
  }

  async list(): Promise<BlockListing> {
    await this.#disk.assertMounted();
    const ids = await this.#idsOf(/^(vol_[0-9a-z]+)\.json$/);
    const read = await Promise.all(ids.map((volumeId) => this.#read(volumeId)));
    return {
      volumes: read.filter((volume) => typeof volume === "object" && "tags" in volume),
      unreadable: ids.filter((_id, position) => read[position] === "unreadable"),
      otherHosts: countOtherHosts(
        read.flatMap((one) =>
          typeof one === "object" && "otherHostId" in one ? one.otherHostId : [],
        ),
      ),
    };
  }

  async create(volume: BlockVolume, signal: AbortSignal): Promise<void> {
    const volumeId = checkVolumeId(volume.volumeId);
    checkTags(volume.tags);
    await this.#prepareFolder();
    await this.#disk.bind();
    if (await exists(this.#imageOf(volumeId))) {
      throw volumeError("volume-foreign", `${this.#imageOf(volumeId)} already exists`, {
        temporary: false,
      });
    }
    await this.#assertCapacity(volume.sizeBytes, signal);
    const unfinished = `${this.#imageOf(volumeId)}.new`;
    await rm(unfinished, { force: true });
    try {
      await this.#allocate(unfinished, checkSize(volume.sizeBytes), signal);
    } catch (error) {
      await rm(unfinished, { force: true });
      throw error;
    }
    // Tags first: an image that exists is then a complete volume.
    await this.#writeTags(volumeId, volume.tags);
    await rename(unfinished, this.#imageOf(volumeId));
    await syncFolder(this.#options.folder);
  }

  async retag({ volumeId }: BlockVolume, tags: VolumeTags): Promise<void> {
    await this.#writeTags(checkVolumeId(volumeId), tags);
  }

  async transfer({ volumeId, tags }: BlockVolume, hostId: string): Promise<void> {
    await this.#writeTags(checkVolumeId(volumeId), tags, hostId);
  }

  async grow(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const image = this.#imageOf(checkVolumeId(volumeId));
    const { size } = await stat(image);
    if (size < checkSize(sizeBytes)) {
      await this.#assertCapacity(sizeBytes - size, signal);
      await this.#allocate(image, sizeBytes, signal);
    }
    await this.#updateCapacity(image, signal);
  }

  async shrink(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const image = this.#imageOf(checkVolumeId(volumeId));
    const { size } = await stat(image);
    if (size > checkSize(sizeBytes)) await truncate(image, sizeBytes);
    await this.#updateCapacity(image, signal);
  }

  async attach(volumeId: string, signal: AbortSignal): Promise<string> {
    const image = this.#imageOf(checkVolumeId(volumeId));
    const device = await this.#deviceOf(image, signal);
    if (device === undefined)
      return (await this.#losetup(["--find", "--show", "--", image], signal)).trim();
    // An earlier agent may have crashed before this.
    await this.#losetup(["--set-capacity", device], signal);
    return device;
  }

  async detach(volumeId: string, signal: AbortSignal): Promise<void> {
    const image = this.#imageOf(checkVolumeId(volumeId));
    const device = await this.#deviceOf(image, signal);
    if (device === undefined) return;
    await this.#losetup(["--detach", device], signal);
    // While a process holds the device, the kernel only marks it for a later detachment.
    for (let look = 0; look < detachLooksMax; look++) {
      if ((await this.#deviceOf(image, signal)) === undefined) return;
      await delay(detachPollMs, undefined, { signal });
    }
    throw await deviceBusy(volumeId, device);
  }

  async remove(volumeId: string, signal: AbortSignal): Promise<void> {
    await this.detach(volumeId, signal);
    await rm(this.#imageOf(volumeId), { force: true });
    await rm(this.#tagsOf(volumeId), { force: true });
    await syncFolder(this.#options.folder);
  }

  /**
   * Free bytes are the rest of `totalBytes` or of the file system, whichever is less. Unreadable
   * volumes count as used.
   */
  async capacity(): Promise<BlockCapacity> {
    const { folder, totalBytes } = this.#options;
    await this.#prepareFolder();
    const ids = await this.#idsOf(/^(vol_[0-9a-z]+)\.img$/);
    const sizes = await Promise.all(
      ids.map((id) => stat(this.#imageOf(id)).catch(ignoreMissingFile)),
    );
    const { bavail, bsize } = await statfs(folder);
    const usedBytes = sizes.reduce((sum, file) => sum + (file?.size ?? 0), 0);
    const freeBytes = Math.max(0, Math.min(totalBytes - usedBytes, bavail * bsize));
    return { totalBytes, usedBytes, freeBytes, isMetadataFull: false, recordsLacking: 0 };
  }

  /**
   * Creates the folder. No image is created before it resolves, so the first call deletes no image
   * in progress.
   */
  async #prepareFolder(): Promise<void> {
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    await this.#disk.assertMounted();
    await (this.#swept ??= this.#sweep());
  }

  /** Deletes unfinished images of an earlier agent. */
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

  async #writeTags(
    volumeId: string,
    tags: VolumeTags,
    hostId = this.#options.hostId,
  ): Promise<void> {
    const text = JSON.stringify({ hostId, ...checkTags(tags) });
    await writeDurably(this.#tagsOf(volumeId), `${text}\n`);
  }

  /**
   * Undefined if the image does not exist. With unreadable tags its owner is unknown.
   */
  async #read(
    volumeId: string,
  ): Promise<BlockVolume | { otherHostId: string } | "unreadable" | undefined> {
    try {
      const { size } = await stat(this.#imageOf(volumeId));
      const text = await readFile(this.#tagsOf(volumeId), "utf8");
      const { hostId, ...tags } = storedTags.parse(JSON.parse(text));
      if (hostId !== this.#options.hostId) return { otherHostId: hostId };
      return { volumeId, sizeBytes: size, tags: checkTags(tags) };
    } catch (error) {
      return getErrorCode(error) === "ENOENT" ? undefined : "unreadable";
    }
  }

  async #assertCapacity(sizeBytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { freeBytes } = await this.capacity();
    if (freeBytes < sizeBytes) throw noCapacity(sizeBytes, freeBytes);
  }

  /** Allocates the blocks now, not at the first write. */
  async #allocate(path: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const args = ["--length", String(sizeBytes), "--", path];
    try {
      await runCommand(fallocate, args, { timeoutMs: fallocateTimeoutMs, signal });
    } catch (error) {
      const isFull = error instanceof CommandError && /no space/i.test(error.stderrTail);
      throw isFull ? noCapacity(sizeBytes, 0, error) : failed(error);
    }
  }

  async #updateCapacity(image: string, signal: AbortSignal): Promise<void> {
    const device = await this.#deviceOf(image, signal);
    if (device !== undefined) await this.#losetup(["--set-capacity", device], signal);
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

function noCapacity(wantedBytes: number, freeBytes: number, cause?: unknown): Error {
  return volumeError(
    "volume-no-room",
    `this host lacks space for a volume of ${describeBytes(wantedBytes)}: ${describeBytes(freeBytes)} are free`,
    { temporary: true, cause },
  );
}

function failed(error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  return volumeError("volume-failed", error.message, { temporary: true, cause: error });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function emptyWhenMissing(error: unknown): string[] {
  if (getErrorCode(error) === "ENOENT") return [];
  throw error;
}

function ignoreMissingFile(error: unknown): undefined {
  if (getErrorCode(error) !== "ENOENT") throw error;
}

function getErrorCode(error: unknown): unknown {
  return (error as { code?: unknown } | undefined)?.code;
}
