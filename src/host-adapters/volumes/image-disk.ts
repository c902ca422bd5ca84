import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { volumeError } from "./block-store.ts";
import { writeDurably } from "./write-durably.ts";

export interface ImageDiskOptions {
  /** The folder of the images. An operator may mount a disk there. */
  folder: string;
  /** A file outside of that folder. It has the id of the folder. */
  idPath: string;
  /** The folder of the volumes' mount points. */
  root: string;
}

/**
 * The disk below the folder of images. The folder and the agent's data directory have the same id,
 * so the agent notices that the disk is not mounted. Without its disk the folder would look like
 * that of a host without volumes. Then their records would be lost, sets would end without their
 * volumes, and new images would be on another disk (I13).
 */
export class ImageDisk {
  readonly #options: ImageDiskOptions;

  constructor(options: ImageDiskOptions) {
    this.#options = options;
  }

  /** Rejects with `volume-missing` if the disk is not mounted. */
  async assertMounted(): Promise<void> {
    const { idPath } = this.#options;
    const [expected, found] = await Promise.all([readId(idPath), readId(this.#markPath)]);
    if (expected === undefined ? await this.#lacksImages(found) : found !== expected)
      throw this.#missing();
  }

  /** Stores the id of the folder, before the first image. Rejects like `assertMounted`. */
  async bind(): Promise<void> {
    await this.assertMounted();
    const { idPath } = this.#options;
    if ((await readId(idPath)) !== undefined) return;
    const id = (await readId(this.#markPath)) ?? randomUUID();
    await writeDurably(this.#markPath, `${id}\n`);
    await writeDurably(idPath, `${id}\n`);
  }

  get #markPath(): string {
    return join(this.#options.folder, ".berth-id");
  }

  /** An agent of an earlier release wrote no id. Mount points show that it had volumes. */
  async #lacksImages(found: string | undefined): Promise<boolean> {
    if (found !== undefined) return false;
    const { folder, root } = this.#options;
    const [images, mountPoints] = await Promise.all([listVolumes(folder), listVolumes(root)]);
    return images.length === 0 && mountPoints.length > 0;
  }

  #missing(): Error {
    const { folder, idPath } = this.#options;
    return volumeError(
      "volume-missing",
      `the disk with the images of volumes is not mounted at ${folder}. Mount it, and restart the agent. If the disk is lost with its volumes, delete ${idPath} and the mount points beside it.`,
      { temporary: true },
    );
  }
}

async function readId(path: string): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch(ignoreMissing);
  return text?.trim();
}

async function listVolumes(folder: string): Promise<string[]> {
  const names = (await readdir(folder).catch(ignoreMissing)) ?? [];
  return names.filter((name) => name.startsWith("vol_"));
}

function ignoreMissing(error: unknown): undefined {
  if ((error as { code?: unknown }).code !== "ENOENT") throw error;
}
