import { chmod, mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { KeyedLock } from "../../../lib/async/keyed-lock.ts";
import type { Log } from "../../../lib/log.ts";
import type { LocalVolume, VolumePort, VolumeSpec } from "../../ports/volume-port.ts";
import {
  type BlockListing,
  type BlockStore,
  type BlockVolume,
  checkSize,
  checkTags,
  checkVolumeId,
  type VolumeTags,
  volumeError,
} from "./block-store.ts";
import { type FileSystemType, growFileSystem, makeFileSystem } from "./file-systems.ts";
import {
  fileSystemUse,
  freeMountPoint,
  mountDevice,
  readMounts,
  removeMountPoint,
  unmount,
} from "./mounts.ts";
import { assertTrashed, makeRoom, refused, Trash } from "./trash.ts";

export interface VolumesOptions {
  store: BlockStore;
  /** Where volumes are mounted: a folder of this agent's own. */
  root: string;
  /** Of new volumes; those that are there keep theirs. */
  fileSystem: FileSystemType;
  /** How long a trashed volume is kept. */
  retentionMs: number;
  /** Whether trashed volumes are purged before that, oldest first, when a set needs their room. */
  purgesEarly: boolean;
  log: Log;
  nowMs?: () => number;
}

/** Not the id of a volume: held by whoever takes room, so that nobody else takes what was made for it. */
const roomKey = "room";

/**
 * Volumes with file systems on a block store. The life of one:
 *
 *     create (new) -> mkfs -> tag live -> mount -> tag growing -> grow -> fill -> ... unmount -> tag trashed -> remove
 *                                           ^--- restore: tag live, of another set ---------------'
 *
 * What a step has done stands in the tags, the device and the kernel's mounts, so a call after a crash goes on where the
 * tags say. "new" is left before the first mount: only what was never mounted is formatted. "trashed" is the one state
 * that is removed from. Tags are read and changed, and what they allow is done, under the volume's lock.
 *
 * A mount point is made with the first mount and removed before its volume: where it is and the volume is not, the volume
 * has vanished, and must not be replaced by an empty one.
 */
export function createVolumes(options: VolumesOptions): VolumePort {
  return new Volumes(options);
}

class Volumes implements VolumePort {
  readonly #options: VolumesOptions;
  readonly #nowMs: () => number;
  readonly #locks = new KeyedLock();
  readonly #trash: Trash;

  constructor(options: VolumesOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? Date.now;
    this.#trash = new Trash({ purgesEarly: options.purgesEarly, nowMs: this.#nowMs });
  }

  async list(signal: AbortSignal): Promise<LocalVolume[]> {
    const [{ volumes }, mounts] = await Promise.all([
      this.#options.store.list(signal),
      readMounts(),
    ]);
    return Promise.all(volumes.map((volume) => this.#describe(volume, mounts)));
  }

  async ensure(
    spec: VolumeSpec,
    signal: AbortSignal,
  ): Promise<{ volumeId: string; dataPath: string }> {
    checkSize(spec.sizeBytes);
    const volumeId = volumeIdOf(spec);
    return this.#locks.run(volumeId, async () => {
      const listing = await this.#options.store.list(signal);
      const volume = await this.#obtain(spec, listing, signal);
      await this.#finish(volume, spec, listing, signal);
      const dataPath = this.dataPathOf(spec);
      await makeDataFolder(dataPath);
      return { volumeId, dataPath };
    });
  }

  dataPathOf(spec: Pick<VolumeSpec, "setId" | "restoreFrom">): string {
    return join(this.#mountPointOf(volumeIdOf(spec)), "data");
  }

  heed(known: Parameters<VolumePort["heed"]>[0]): void {
    this.#trash.heed(known);
  }

  async trash(setId: string, signal: AbortSignal): Promise<void> {
    const ownId = volumeIdOf({ setId });
    const { volumes, unreadable } = await this.#options.store.list(signal);
    if (unreadable.includes(ownId)) throw unreadableTags(ownId);
    for (const { volumeId, tags } of volumes) {
      if (tags.setId !== setId || tags.state === "trashed") continue;
      await this.#locks.run(volumeId, () => this.#putAway(volumeId, setId, signal));
    }
    if (!volumes.some(({ volumeId }) => volumeId === ownId))
      await this.#forgetVanished(ownId, signal);
  }

  async expire(volumeId: string, signal: AbortSignal): Promise<void> {
    await this.#locks.run(checkVolumeId(volumeId), async () => {
      const volume = await this.#find(volumeId, signal);
      if (!volume) return;
      assertTrashed(volume);
      const { expiredAtMs: expiresAtMs } = this.#trash;
      if ((volume.tags.expiresAtMs ?? 0) <= expiresAtMs) return;
      await this.#retag(volume, { ...volume.tags, expiresAtMs }, signal);
    });
  }

  async purge(volumeId: string, signal: AbortSignal): Promise<void> {
    await this.#locks.run(checkVolumeId(volumeId), async () => {
      const volume = await this.#find(volumeId, signal);
      if (!volume) return;
      this.#trash.assertExpired(volume);
      await this.#destroy(volume, "its retention is over", signal);
    });
  }

  async room(signal: AbortSignal) {
    const { store } = this.#options;
    const [room, { volumes, unreadable }] = await Promise.all([
      store.room(signal),
      store.list(signal),
    ]);
    return {
      ...room,
      reclaimableBytes: sizeOfAll(this.#trash.reclaimable(volumes)),
      trashedBytes: sizeOfAll(volumes.filter(({ tags }) => tags.state === "trashed")),
      unreadable,
    };
  }

  #mountPointOf(volumeId: string): string {
    return join(this.#options.root, volumeId);
  }

  async #describe(
    { volumeId, sizeBytes, tags }: BlockVolume,
    mounts: ReadonlyMap<string, string>,
  ): Promise<LocalVolume> {
    const { setId, tenant, service, state, growingFromBytes, trashedAtMs, expiresAtMs } = tags;
    const mountPoint = this.#mountPointOf(volumeId);
    const usedBytes = mounts.has(mountPoint)
      ? await fileSystemUse(mountPoint).catch(() => undefined) // unmounted meanwhile
      : undefined;
    return {
      volumeId,
      setId,
      tenant,
      service,
      state,
      sizeBytes: growingFromBytes ?? sizeBytes,
      usedBytes,
      trashedAtMs,
      expiresAtMs,
    };
  }

  /** The set's volume: the one it has, out of the trash, or a new one. */
  async #obtain(
    spec: VolumeSpec,
    listing: BlockListing,
    signal: AbortSignal,
  ): Promise<BlockVolume> {
    const { setId, tenant, service, generation, sizeBytes } = spec;
    const volumeId = volumeIdOf(spec);
    const other = listing.volumes.find(
      ({ volumeId: id, tags }) =>
        tags.setId === setId && tags.state !== "trashed" && id !== volumeId,
    );
    if (other)
      throw refused(`set ${setId} is to have volume ${volumeId}, and has ${other.volumeId}`);
    if (listing.unreadable.includes(volumeId)) throw unreadableTags(volumeId);
    const found = listing.volumes.find((candidate) => candidate.volumeId === volumeId);
    if (found) return this.#adopt(found, spec, signal);
    if (spec.restoreFrom !== undefined || (await exists(this.#mountPointOf(volumeId)))) {
      throw volumeError(
        "volume-missing",
        `volume ${volumeId} is not on this host any more, and the set does not begin anew without it: bring it back, or delete the set`,
        { temporary: false },
      );
    }
    const tags = checkTags({ setId, tenant, service, generation, state: "new" });
    const volume = { volumeId, sizeBytes, tags };
    await this.#takeRoom(sizeBytes, listing, signal, () =>
      this.#options.store.create(volume, signal),
    );
    return volume;
  }

  /** It is the set's, or becomes it again: a set that comes back to a host that it left finds what it had there. */
  async #adopt(volume: BlockVolume, spec: VolumeSpec, signal: AbortSignal): Promise<BlockVolume> {
    const { volumeId, tags } = volume;
    const { setId, tenant, service, generation } = spec;
    if (tags.state !== "trashed" && tags.setId === setId) return volume;
    assertTrashed(volume);
    if (tags.tenant !== tenant || tags.service !== service)
      throw refused(`volume ${volumeId} is of another service`);
    const { trashedAtMs: _trashed, expiresAtMs: _expires, ...kept } = tags;
    const restored = await this.#retag(
      volume,
      { ...kept, setId, generation, state: "live" },
      signal,
    );
    this.#options.log.info({ volumeId, setId }, "volume restored");
    return restored;
  }

  /** Whatever of it is not there yet: file system, mount, size. */
  async #finish(
    obtained: BlockVolume,
    spec: VolumeSpec,
    listing: BlockListing,
    signal: AbortSignal,
  ): Promise<void> {
    const { store, fileSystem } = this.#options;
    const { volumeId, sizeBytes } = obtained;
    const device = await store.attach(volumeId, signal);
    let volume = obtained;
    if (volume.tags.state === "new") {
      const isImage = store.hasImages;
      await makeFileSystem(fileSystem, { device, sizeBytes, isImage }, signal);
      volume = await this.#retag(volume, { ...volume.tags, state: "live" }, signal);
    }
    const mountPoint = this.#mountPointOf(volumeId);
    if (!(await readMounts()).has(mountPoint)) await mountDevice(device, mountPoint, signal);
    if (volume.sizeBytes < spec.sizeBytes)
      volume = await this.#grow(volume, spec.sizeBytes, listing, signal);
    const { growingFromBytes, ...filled } = volume.tags;
    let { tags } = volume;
    // A size that was taken back, as the file system could not be made larger, must not keep the set from what it has.
    if (growingFromBytes !== undefined && growingFromBytes < spec.sizeBytes) {
      const type = (await readMounts()).get(mountPoint);
      await growFileSystem({ device, mountPoint, type }, signal);
      tags = filled;
    }
    const generation = Math.max(tags.generation, spec.generation);
    await this.#retag(volume, { ...tags, generation }, signal);
  }

  /** Its blocks alone, and noted before, so that the file system is not forgotten. */
  async #grow(
    volume: BlockVolume,
    sizeBytes: number,
    listing: BlockListing,
    signal: AbortSignal,
  ): Promise<BlockVolume> {
    const { volumeId, tags } = volume;
    const growingFromBytes = tags.growingFromBytes ?? volume.sizeBytes;
    const noted = await this.#retag(volume, { ...tags, growingFromBytes }, signal);
    await this.#takeRoom(sizeBytes - volume.sizeBytes, listing, signal, () =>
      this.#options.store.grow(volumeId, sizeBytes, signal),
    );
    return { ...noted, sizeBytes };
  }

  /** Purges what may be purged, if that makes room, and takes it. What somebody is at work on is passed over. */
  async #takeRoom(
    sizeBytes: number,
    { volumes }: BlockListing,
    signal: AbortSignal,
    take: () => Promise<void>,
  ): Promise<void> {
    const { store, log } = this.#options;
    await this.#locks.run(roomKey, async () => {
      await makeRoom(sizeBytes, {
        candidates: this.#trash
          .reclaimable(volumes)
          .filter(({ volumeId }) => !this.#locks.isHeld(volumeId)),
        freeBytes: async () => (await store.room(signal)).freeBytes,
        destroy: ({ volumeId }) => this.#destroyIfTrashed(volumeId, signal),
        log,
      });
      await take();
    });
  }

  async #destroyIfTrashed(volumeId: string, signal: AbortSignal): Promise<void> {
    // Never waited for: who holds it may wait for the room that is being made.
    if (this.#locks.isHeld(volumeId)) return;
    await this.#locks.run(volumeId, async () => {
      const volume = await this.#find(volumeId, signal);
      if (volume && this.#trash.reclaimable([volume]).length > 0)
        await this.#destroy(volume, "its room is needed", signal);
    });
  }

  /** From a set to the trash. */
  async #putAway(volumeId: string, setId: string, signal: AbortSignal): Promise<void> {
    const { store, retentionMs, log } = this.#options;
    const volume = await this.#find(volumeId, signal);
    if (volume?.tags.setId !== setId || volume.tags.state === "trashed") return;
    await this.#release(volumeId, signal);
    if (volume.tags.state === "new") {
      await store.remove(volumeId, signal); // never mounted: there is nothing to keep
      return;
    }
    await freeMountPoint(this.#mountPointOf(volumeId), signal);
    const trashedAtMs = this.#nowMs();
    const expiresAtMs = trashedAtMs + retentionMs;
    await this.#retag(
      volume,
      { ...volume.tags, state: "trashed", trashedAtMs, expiresAtMs },
      signal,
    );
    log.info({ volumeId, setId, expiresAt: new Date(expiresAtMs).toISOString() }, "volume trashed");
  }

  /** Its set is removed, and may begin anew should it come back. */
  async #forgetVanished(volumeId: string, signal: AbortSignal): Promise<void> {
    const mountPoint = this.#mountPointOf(volumeId);
    if (!(await exists(mountPoint)) || (await readMounts()).has(mountPoint)) return;
    await removeMountPoint(mountPoint, signal);
  }

  async #release(volumeId: string, signal: AbortSignal): Promise<void> {
    const mountPoint = this.#mountPointOf(volumeId);
    if ((await readMounts()).has(mountPoint)) await unmount(mountPoint, signal);
    await this.#options.store.detach(volumeId, signal);
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
    await this.#release(volumeId, signal);
    // Before the volume, by which it is found again should this be the agent's last step.
    await removeMountPoint(this.#mountPointOf(volumeId), signal);
    await store.remove(volumeId, signal);
    log.info(
      { volumeId, sizeBytes, setId: tags.setId, service: tags.service, why },
      "volume purged",
    );
  }
}

/** A set's own volume is named after it, so that making it twice is noticed. */
function volumeIdOf({ setId, restoreFrom }: Pick<VolumeSpec, "setId" | "restoreFrom">): string {
  return checkVolumeId(restoreFrom ?? setId.replace(/^set_/, "vol_"));
}

function sizeOfAll(volumes: readonly BlockVolume[]): number {
  return volumes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function isSame(one: VolumeTags, other: VolumeTags): boolean {
  const names = Object.keys({ ...one, ...other }) as (keyof VolumeTags)[];
  return names.every((name) => one[name] === other[name]);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * What containers see is a folder of the file system, not its root: there is no lost+found in it, which databases refuse, and
 * it is not there while the volume is not mounted. Any user of the containers may write to it.
 */
async function makeDataFolder(dataPath: string): Promise<void> {
  if (await exists(dataPath)) return;
  const unfinished = `${dataPath}.new`;
  await mkdir(unfinished, { recursive: true });
  await chmod(unfinished, 0o1777);
  await rename(unfinished, dataPath);
}

function unreadableTags(volumeId: string): Error {
  const text = `the tags of volume ${volumeId} cannot be read: nothing is done to it until they are put right`;
  return volumeError("volume-unreadable", text, { temporary: true });
}
