import { join } from "node:path";
import { KeyedLock } from "../../lib/async/keyed-lock.ts";
import type { Log } from "../../lib/log.ts";
import type { LocalVolume, VolumePort, VolumeSpec } from "../../agent/ports/volume-port.ts";
import {
  type BlockListing,
  type BlockStore,
  type BlockVolume,
  checkSize,
  checkTags,
  checkVolumeId,
  unreadableTagsError,
  type VolumeTags,
  volumeError,
} from "./block-store.ts";
import { createDataFolder, exists } from "./data-folder.ts";
import { describeVolume } from "./describe-volume.ts";
import {
  detectFileSystem,
  type FileSystemType,
  makeFileSystem,
  type MountedFileSystem,
} from "./file-systems.ts";
import { growVolume } from "./grow-volume.ts";
import { freeMountPoint, mountDevice, readMounts, removeMountPoint, unmount } from "./mounts.ts";
import {
  assertTrashed,
  freeSpace,
  getRetention,
  noRetention,
  refused,
  sumSizes,
  toRetention,
  Trash,
} from "./trash.ts";

export interface VolumesOptions {
  store: BlockStore;
  /** The folder of the mount points, which belongs to this agent alone. */
  root: string;
  /** The type of new file systems. Existing ones do not change. */
  fileSystem: FileSystemType;
  /** Retention of a trashed volume. */
  retentionMs: number;
  /** True if a set that needs space may purge trashed volumes before their expiry, oldest first. */
  purgesEarly: boolean;
  log: Log;
}

/**
 * A lock key that is not a volume's id. Its holder frees and allocates space, so that no other
 * volume takes the freed space.
 */
const capacityKey = "room";

/**
 * Volumes with file systems on a block store. The states of a volume:
 *
 *     create (new) -> mkfs -> tag live -> mount -> tag growing -> grow -> fill
 *                                ^                                          |
 *              restore, also to  |                                          v
 *              another set       '------ tag trashed <---------------- unmount
 *                                             |
 *                                             '-> remove
 *
 * Tags, the device and the kernel's mounts record each completed step, so a call after a crash
 * continues from the tags. A volume leaves "new" before its first mount: only a volume that was
 * never mounted is formatted. Only "trashed" volumes are removed. The volume's lock covers the read
 * and the change of its tags, and the work that they allow.
 *
 * The first mount creates the mount point, which is deleted before its volume. So a mount point
 * without its volume means that the volume has vanished. An empty volume must not replace it.
 */
export function createVolumes(options: VolumesOptions): VolumePort {
  return new Volumes(options);
}

class Volumes implements VolumePort {
  readonly #options: VolumesOptions;
  readonly #locks = new KeyedLock();
  readonly #trash: Trash;

  constructor(options: VolumesOptions) {
    this.#options = options;
    this.#trash = new Trash({ purgesEarly: options.purgesEarly });
  }

  async list(signal: AbortSignal): Promise<LocalVolume[]> {
    return (await this.listAll(signal)).volumes;
  }

  async listAll(signal: AbortSignal) {
    const { store } = this.#options;
    const [{ volumes, ...others }, mounts] = await Promise.all([store.list(signal), readMounts()]);
    const described = volumes.map((volume) =>
      describeVolume(volume, this.#mountPointOf(volume.volumeId), mounts),
    );
    return { ...others, volumes: await Promise.all(described) };
  }

  async ensure(spec: VolumeSpec, signal: AbortSignal): ReturnType<VolumePort["ensure"]> {
    checkSize(spec.sizeBytes);
    const volumeId = deriveVolumeId(spec);
    return this.#locks.run(volumeId, async () => {
      const listing = await this.#options.store.list(signal);
      const volume = await this.#obtain(spec, listing, signal);
      const mounted = await this.#mount(volume, signal);
      const dataPath = this.getDataPath(spec);
      await createDataFolder(dataPath);
      const sizeBytes = await this.#resize(mounted, spec, listing, signal);
      return { volumeId, dataPath, sizeBytes };
    });
  }

  getDataPath(spec: Pick<VolumeSpec, "setId" | "restoreFrom">): string {
    return join(this.#mountPointOf(deriveVolumeId(spec)), "data");
  }

  updateRetention(facts: Parameters<VolumePort["updateRetention"]>[0]): void {
    this.#trash.updateRetention(facts);
  }

  async trash(setId: string, signal: AbortSignal): Promise<void> {
    const ownId = deriveVolumeId({ setId });
    const { volumes, unreadable } = await this.#options.store.list(signal);
    if (unreadable.includes(ownId)) throw unreadableTagsError(ownId);
    for (const { volumeId, tags } of volumes) {
      if (tags.setId !== setId || tags.state === "trashed") continue;
      await this.#locks.run(volumeId, () => this.#moveToTrash(volumeId, setId, signal));
    }
    if (!volumes.some(({ volumeId }) => volumeId === ownId))
      await this.#forgetVanished(ownId, signal);
  }

  async expire(volumeId: string, signal: AbortSignal): Promise<void> {
    await this.#locks.run(checkVolumeId(volumeId), async () => {
      const volume = await this.#find(volumeId, signal);
      if (!volume) return;
      assertTrashed(volume);
      const { controlPlaneTimeMs } = this.#trash;
      const started = getRetention(volume.tags);
      if (started && started.expiresAtMs <= controlPlaneTimeMs) return;
      const retention = toRetention(started?.trashedAtMs ?? controlPlaneTimeMs, controlPlaneTimeMs);
      await this.#retag(volume, { ...volume.tags, ...retention }, signal);
    });
  }

  async startRetention(volumeId: string, trashedAtMs: number, signal: AbortSignal): Promise<void> {
    await this.#locks.run(checkVolumeId(volumeId), async () => {
      const volume = await this.#find(volumeId, signal);
      if (volume?.tags.state !== "trashed" || getRetention(volume.tags)) return;
      const expiresAtMs = trashedAtMs + this.#options.retentionMs;
      const retention = toRetention(trashedAtMs, expiresAtMs);
      await this.#retag(volume, { ...volume.tags, ...retention }, signal);
    });
  }

  async purge(volumeId: string, signal: AbortSignal): Promise<void> {
    await this.#locks.run(checkVolumeId(volumeId), async () => {
      const volume = await this.#find(volumeId, signal);
      if (!volume) return;
      this.#trash.assertExpired(volume);
      await this.#destroy(volume, "its retention has ended", signal);
    });
  }

  async capacity(signal: AbortSignal) {
    const { store } = this.#options;
    const [{ recordsLacking, ...capacity }, { volumes, unreadable }] = await Promise.all([
      store.capacity(signal),
      store.list(signal),
    ]);
    return {
      ...capacity,
      freeBytes: recordsLacking > 0 ? 0 : capacity.freeBytes,
      reclaimableBytes: sumSizes(this.#trash.reclaimable(volumes)),
      trashedBytes: sumSizes(volumes.filter(({ tags }) => tags.state === "trashed")),
      unreadable,
    };
  }

  #mountPointOf(volumeId: string): string {
    return join(this.#options.root, volumeId);
  }

  /** Returns the set's volume: its own, one from the trash, or a new one. */
  async #obtain(
    spec: VolumeSpec,
    listing: BlockListing,
    signal: AbortSignal,
  ): Promise<BlockVolume> {
    const { setId, tenant, service, generation, sizeBytes } = spec;
    const volumeId = deriveVolumeId(spec);
    const other = listing.volumes.find(
      ({ volumeId: id, tags }) =>
        tags.setId === setId && tags.state !== "trashed" && id !== volumeId,
    );
    if (other) throw refused(`set ${setId} wants volume ${volumeId}, but has ${other.volumeId}`);
    if (listing.unreadable.includes(volumeId)) throw unreadableTagsError(volumeId);
    const found = listing.volumes.find((candidate) => candidate.volumeId === volumeId);
    if (found) return this.#adopt(found, spec, signal);
    if (spec.restoreFrom !== undefined || (await exists(this.#mountPointOf(volumeId)))) {
      throw volumeError(
        "volume-missing",
        `volume ${volumeId} is missing on this host. The set does not start empty: restore the volume, or delete the set.`,
        { temporary: false },
      );
    }
    const tags = checkTags({ setId, tenant, service, generation, state: "new" });
    const volume = { volumeId, sizeBytes, tags };
    try {
      const take = () => this.#options.store.create(volume, signal);
      await this.#allocateSpace({ sizeBytes, isCreation: true }, listing, signal, take);
      return volume;
    } catch (error) {
      // A program of a killed agent may have created it since the list.
      const created = await this.#find(volumeId, signal);
      if (!created) throw error;
      return this.#adopt(created, spec, signal);
    }
  }

  /**
   * Returns the set's volume, or restores it from the trash. A set that returns to a host finds the
   * data that it had there.
   */
  async #adopt(volume: BlockVolume, spec: VolumeSpec, signal: AbortSignal): Promise<BlockVolume> {
    const { volumeId, tags } = volume;
    const { setId, tenant, service, generation } = spec;
    if (tags.state !== "trashed" && tags.setId === setId) return volume;
    assertTrashed(volume);
    if (tags.tenant !== tenant || tags.service !== service)
      throw refused(`volume ${volumeId} belongs to another service`);
    const live = { ...tags, ...noRetention, setId, generation, state: "live" as const };
    const restored = await this.#retag(volume, live, signal);
    this.#options.log.info({ volumeId, setId }, "volume restored");
    return restored;
  }

  /** Completes the missing parts: device, file system, mount. */
  async #mount(
    obtained: BlockVolume,
    signal: AbortSignal,
  ): Promise<{ volume: BlockVolume; mounted: MountedFileSystem }> {
    const { store, fileSystem, log } = this.#options;
    const { volumeId, sizeBytes } = obtained;
    const device = await store.attach(volumeId, signal);
    let volume = obtained;
    let type: FileSystemType | undefined;
    if (volume.tags.state === "new") {
      const isImage = store.hasImages;
      type = await makeFileSystem(fileSystem, { device, sizeBytes, isImage }, signal);
      volume = await this.#retag(volume, { ...volume.tags, state: "live" }, signal);
    }
    const mountPoint = this.#mountPointOf(volumeId);
    if (!(await readMounts()).has(mountPoint)) {
      type ??= await detectFileSystem(device, signal);
      await mountDevice({ device, type, mountPoint }, signal);
    }
    const mounted = { device, mountPoint, type: (await readMounts()).get(mountPoint) };
    if (obtained.tags.state === "new")
      log.info({ volumeId, setId: obtained.tags.setId, sizeBytes, type }, "volume created");
    return { volume, mounted };
  }

  /**
   * Grows a mounted volume to its specification, and stores the generation. Returns the size of
   * the file system.
   */
  async #resize(
    { volume, mounted }: { volume: BlockVolume; mounted: MountedFileSystem },
    spec: VolumeSpec,
    listing: BlockListing,
    signal: AbortSignal,
  ): Promise<number> {
    const { store, log } = this.#options;
    const allocate = (moreBytes: number, take: () => Promise<void>) =>
      this.#allocateSpace({ sizeBytes: moreBytes, isCreation: false }, listing, signal, take);
    const context = { store, log, mounted, allocate };
    try {
      const { stored, tags } = await growVolume(context, volume, spec.sizeBytes, signal);
      const generation = Math.max(tags.generation, spec.generation);
      await this.#retag(stored, { ...tags, generation }, signal);
      return tags.growingFromBytes ?? stored.sizeBytes;
    } catch (error) {
      if (spec.acceptsSmaller !== true || signal.aborted) throw error;
      log.warn(
        { err: error, volumeId: volume.volumeId },
        "the volume starts with its smaller size",
      );
      return volume.tags.growingFromBytes ?? volume.sizeBytes;
    }
  }

  /**
   * Purges trashed volumes if that frees enough space, then allocates. Skips volumes whose lock is
   * in use.
   */
  async #allocateSpace(
    { sizeBytes, isCreation }: { sizeBytes: number; isCreation: boolean },
    { volumes }: BlockListing,
    signal: AbortSignal,
    take: () => Promise<void>,
  ): Promise<void> {
    const { store, log } = this.#options;
    await this.#locks.run(capacityKey, async () => {
      await freeSpace(sizeBytes, {
        isCreation,
        candidates: this.#trash
          .reclaimable(volumes)
          .filter(({ volumeId }) => !this.#locks.isHeld(volumeId)),
        measure: () => store.capacity(signal),
        destroy: ({ volumeId }) => this.#destroyIfTrashed(volumeId, signal),
        log,
      });
      await take();
    });
  }

  async #destroyIfTrashed(volumeId: string, signal: AbortSignal): Promise<void> {
    // Do not wait: the holder of that lock may wait for this very space.
    if (this.#locks.isHeld(volumeId)) return;
    await this.#locks.run(volumeId, async () => {
      const volume = await this.#find(volumeId, signal);
      if (volume && this.#trash.reclaimable([volume]).length > 0)
        await this.#destroy(volume, "its space is needed", signal);
    });
  }

  /** Moves a volume from its set to the trash. */
  async #moveToTrash(volumeId: string, setId: string, signal: AbortSignal): Promise<void> {
    const { store, log } = this.#options;
    const volume = await this.#find(volumeId, signal);
    if (volume?.tags.setId !== setId || volume.tags.state === "trashed") return;
    await this.#unmount(volumeId, signal);
    if (volume.tags.state === "new") {
      await store.remove(volumeId, signal); // never mounted, so it has no data
      return;
    }
    await freeMountPoint(this.#mountPointOf(volumeId), signal);
    // The control plane starts the retention. This host's clock may be wrong (I16).
    await this.#retag(volume, { ...volume.tags, ...noRetention, state: "trashed" }, signal);
    log.info({ volumeId, setId }, "volume trashed");
    // A process outside of Berth may hold the device, which must not block the end of the set. The
    // purge detaches it again.
    await store.detach(volumeId, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      log.warn({ err: error, volumeId }, "a trashed volume remains attached");
    });
  }

  /**
   * Deletes the mount point of a vanished volume with its set. The set may then start empty if it
   * returns.
   */
  async #forgetVanished(volumeId: string, signal: AbortSignal): Promise<void> {
    const mountPoint = this.#mountPointOf(volumeId);
    if (!(await exists(mountPoint)) || (await readMounts()).has(mountPoint)) return;
    await removeMountPoint(mountPoint, signal);
  }

  async #unmount(volumeId: string, signal: AbortSignal): Promise<void> {
    const mountPoint = this.#mountPointOf(volumeId);
    if ((await readMounts()).has(mountPoint)) await unmount(mountPoint, signal);
  }

  async #find(volumeId: string, signal: AbortSignal): Promise<BlockVolume | undefined> {
    const { volumes } = await this.#options.store.list(signal);
    return volumes.find((candidate) => candidate.volumeId === volumeId);
  }

  async #retag(volume: BlockVolume, tags: VolumeTags, signal: AbortSignal): Promise<BlockVolume> {
    if (!isSame(volume.tags, tags)) await this.#options.store.retag(volume, tags, signal);
    return { ...volume, tags };
  }

  async #destroy(volume: BlockVolume, why: string, signal: AbortSignal): Promise<void> {
    const { store, log } = this.#options;
    const { volumeId, sizeBytes, tags } = volume;
    await this.#unmount(volumeId, signal);
    await store.detach(volumeId, signal);
    // Before the volume, so that a later call still finds the volume if the agent crashes here.
    await removeMountPoint(this.#mountPointOf(volumeId), signal);
    await store.remove(volumeId, signal);
    log.info(
      { volumeId, sizeBytes, setId: tags.setId, service: tags.service, why },
      "volume purged",
    );
  }
}

/** Derives a set's own volume id from the set's id, so that a second creation fails. */
function deriveVolumeId({ setId, restoreFrom }: Pick<VolumeSpec, "setId" | "restoreFrom">): string {
  return checkVolumeId(restoreFrom ?? setId.replace(/^set_/, "vol_"));
}

function isSame(one: VolumeTags, other: VolumeTags): boolean {
  const names = Object.keys({ ...one, ...other }) as (keyof VolumeTags)[];
  return names.every((name) => one[name] === other[name]);
}
