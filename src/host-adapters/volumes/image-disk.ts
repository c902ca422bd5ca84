import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { volumeError } from "./block-store.ts";
import { writeDurably } from "./write-durably.ts";

/** The last write of ids in this process. */
let lastWrite: Promise<unknown> = Promise.resolve();

export interface ImageDiskOptions {
  hostId: string;
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

  /**
   * Rejects with `volume-missing` if the disk is not mounted. A disk without an id that has images
   * of this host gets the id, as does the host.
   */
  async assertMounted(): Promise<void> {
    const { expected, found } = await this.#readIds();
    if (expected !== undefined && found === expected) return;
    if (expected === undefined || found === undefined) {
      if (await this.#hasImagesOfHost()) return this.#writeIds();
      if (expected === undefined && (found !== undefined || !(await this.#lacksImages()))) return;
    }
    throw this.#missing(expected, found);
  }

  /**
   * Stores the id of the folder. Call it before the first image and not earlier: until then an
   * operator may mount a disk. Rejects like `assertMounted`.
   */
  async bind(): Promise<void> {
    await this.assertMounted();
    await this.#writeIds();
  }

  /** Concurrent calls, also those of other hosts on this machine, write one id. */
  async #writeIds(): Promise<void> {
    const written = lastWrite.then(async () => {
      const { expected, found } = await this.#readIds();
      const id = expected ?? found ?? randomUUID();
      if (found === undefined) await writeDurably(this.#markPath, `${id}\n`);
      if (expected === undefined) await writeDurably(this.#options.idPath, `${id}\n`);
    });
    lastWrite = written.catch(() => undefined);
    await written;
  }

  async #readIds(): Promise<{ expected: string | undefined; found: string | undefined }> {
    const paths = [this.#options.idPath, this.#markPath];
    const [expected, found] = await Promise.all(paths.map(readId));
    return { expected, found };
  }

  get #markPath(): string {
    return join(this.#options.folder, ".berth-id");
  }

  async #hasImagesOfHost(): Promise<boolean> {
    const { folder, hostId } = this.#options;
    const names = new Set(await listVolumes(folder));
    for (const name of names) {
      if (!name.endsWith(".json") || !names.has(name.replace(/json$/, "img"))) continue;
      if ((await readHostId(join(folder, name))) === hostId) return true;
    }
    return false;
  }

  /** An agent of an earlier release wrote no id. Mount points show that it had volumes. */
  async #lacksImages(): Promise<boolean> {
    const { folder, root } = this.#options;
    const [images, mountPoints] = await Promise.all([listVolumes(folder), listVolumes(root)]);
    return images.length === 0 && mountPoints.length > 0;
  }

  #missing(expected: string | undefined, found: string | undefined): Error {
    const { folder, idPath } = this.#options;
    const wanted = expected === undefined ? "" : ` and the id ${expected}`;
    const there = found === undefined ? "no id, and no volumes of this host" : `the id ${found}`;
    return volumeError(
      "volume-missing",
      `the disk with the images of volumes${wanted} is not mounted at ${folder}. The disk there has ${there}. Mount the expected disk, and restart the agent. If it had no volumes, or is lost with them, delete ${idPath} and the mount points beside it.`,
      { temporary: true },
    );
  }
}

async function readId(path: string): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch(ignoreMissing);
  return text?.trim();
}

/** Undefined for tags that cannot be read. */
async function readHostId(path: string): Promise<unknown> {
  try {
    const tags: unknown = JSON.parse(await readFile(path, "utf8"));
    return (tags as { hostId?: unknown } | null)?.hostId;
  } catch {
    return undefined;
  }
}

async function listVolumes(folder: string): Promise<string[]> {
  const names = (await readdir(folder).catch(ignoreMissing)) ?? [];
  return names.filter((name) => name.startsWith("vol_"));
}

function ignoreMissing(error: unknown): undefined {
  if ((error as { code?: unknown }).code !== "ENOENT") throw error;
}
