import { chmod, mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../../lib/log.ts";
import { AgentError } from "../../agent-error.ts";
import type { LocalVolume, VolumePort, VolumeSpec } from "../../ports/volume-port.ts";
import {
  type BlockStore,
  type BlockVolume,
  checkSize,
  checkTags,
  checkVolumeId,
  volumeError,
} from "./block-store.ts";
import { type FileSystemType, fillDevice, makeFileSystem } from "./file-systems.ts";
import { fileSystemUse, mountDevice, readMounts, removeMountPoint, unmount } from "./mounts.ts";

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

/**
 * Volumes with file systems on a block store. The life of one:
 *
 *     create (new) -> mkfs -> tag live -> mount -> ... grow ... -> unmount -> tag trashed -> remove
 *                                           ^--- restore: tag live, of another set ---'
 *
 * What a step has done stands in the tags, the device and the kernel's mounts, so a call after a crash goes on where the
 * tags say. "new" is left before the first mount: only what was never mounted is formatted. "trashed" is the one state
 * that is removed from, and it is read again right before.
 */
export function createVolumes(options: VolumesOptions): VolumePort {
  return new Volumes(options);
}

class Volumes implements VolumePort {
  readonly #options: VolumesOptions;
  readonly #nowMs: () => number;

  constructor(options: VolumesOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? Date.now;
  }

  async list(signal: AbortSignal): Promise<LocalVolume[]> {
    const { store } = this.#options;
    const [stored, mounts] = await Promise.all([store.list(signal), readMounts()]);
    return Promise.all(
      stored.flatMap((volume) =>
        volume.tags.state === "new" ? [] : this.#describe(volume, volume.tags.state, mounts),
      ),
    );
  }

  async ensure(
    spec: VolumeSpec,
    signal: AbortSignal,
  ): Promise<{ volumeId: string; dataPath: string }> {
    const { store, fileSystem } = this.#options;
    checkSize(spec.sizeBytes);
    const stored = await store.list(signal);
    const volume =
      stored.find(({ tags }) => tags.setId === spec.setId && tags.state !== "trashed") ??
      (await this.#obtain(spec, stored, signal));
    const { volumeId } = volume;
    const device = await store.attach(volumeId, signal);
    if (volume.tags.state === "new") {
      await makeFileSystem(fileSystem, { device, sizeBytes: volume.sizeBytes }, signal);
      await store.retag(volume, { ...volume.tags, state: "live" }, signal);
    }
    const mountPoint = this.#mountPointOf(volumeId);
    if (!(await readMounts()).has(mountPoint)) await mountDevice(device, mountPoint, signal);
    await this.#fill(volume, { device, mountPoint, sizeBytes: spec.sizeBytes }, signal);
    const dataPath = join(mountPoint, "data");
    await makeDataFolder(dataPath);
    return { volumeId, dataPath };
  }

  dataPathOf(spec: Pick<VolumeSpec, "setId" | "restoreFrom">): string {
    const volumeId = spec.restoreFrom ?? ownVolumeId(spec.setId);
    return join(this.#mountPointOf(checkVolumeId(volumeId)), "data");
  }

  async trash(setId: string, signal: AbortSignal): Promise<void> {
    const { store, retentionMs, log } = this.#options;
    for (const volume of await store.list(signal)) {
      const { volumeId, tags } = volume;
      if (tags.setId !== setId || tags.state === "trashed") continue;
      await this.#release(volumeId, signal);
      if (tags.state === "new") {
        await store.remove(volumeId, signal); // never mounted: there is nothing to keep
        continue;
      }
      const trashedAtMs = this.#nowMs();
      const expiresAtMs = trashedAtMs + retentionMs;
      await store.retag(volume, { ...tags, state: "trashed", trashedAtMs, expiresAtMs }, signal);
      log.info(
        { volumeId, setId, expiresAt: new Date(expiresAtMs).toISOString() },
        "volume trashed",
      );
    }
  }

  async expire(volumeId: string, signal: AbortSignal): Promise<void> {
    const { store } = this.#options;
    const volume = await this.#find(volumeId, signal);
    if (!volume) return;
    this.#assertTrashed(volume);
    if ((volume.tags.expiresAtMs ?? 0) <= this.#nowMs()) return;
    await store.retag(volume, { ...volume.tags, expiresAtMs: this.#nowMs() }, signal);
  }

  async purge(volumeId: string, signal: AbortSignal): Promise<void> {
    const volume = await this.#find(volumeId, signal);
    if (!volume) return;
    this.#assertTrashed(volume);
    const { expiresAtMs = Number.POSITIVE_INFINITY } = volume.tags;
    if (expiresAtMs > this.#nowMs()) {
      const until = Number.isFinite(expiresAtMs) ? new Date(expiresAtMs).toISOString() : "for ever";
      throw refused(`volume ${volumeId} is kept until ${until}`);
    }
    await this.#destroy(volume, "its retention is over", signal);
  }

  async room(signal: AbortSignal) {
    const { store, purgesEarly } = this.#options;
    const [room, stored] = await Promise.all([store.room(signal), store.list(signal)]);
    const nowMs = this.#nowMs();
    const reclaimable = stored.filter(
      ({ tags }) =>
        tags.state === "trashed" && (purgesEarly || (tags.expiresAtMs ?? Infinity) <= nowMs),
    );
    const reclaimableBytes = reclaimable.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return { ...room, reclaimableBytes };
  }

  #mountPointOf(volumeId: string): string {
    return join(this.#options.root, volumeId);
  }

  async #describe(
    { volumeId, sizeBytes, tags }: BlockVolume,
    state: LocalVolume["state"],
    mounts: ReadonlyMap<string, string>,
  ): Promise<LocalVolume> {
    const { setId, tenant, service, trashedAtMs, expiresAtMs } = tags;
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
      sizeBytes,
      usedBytes,
      trashedAtMs,
      expiresAtMs,
    };
  }

  /** A volume for a set that has none: out of the trash, or a new one. */
  async #obtain(
    spec: VolumeSpec,
    stored: readonly BlockVolume[],
    signal: AbortSignal,
  ): Promise<BlockVolume> {
    const { store } = this.#options;
    const { setId, tenant, service, generation } = spec;
    const tags = checkTags({ setId, tenant, service, generation, state: "new" });
    const volumeId = ownVolumeId(setId);
    // A set that comes back to a host that it left finds what it had there.
    const own = stored.find((candidate) => candidate.volumeId === volumeId);
    const source = spec.restoreFrom ?? own?.volumeId;
    if (source !== undefined) return this.#restore(source, spec, stored, signal);
    const volume = { volumeId, sizeBytes: spec.sizeBytes, tags };
    await this.#makeRoom(spec.sizeBytes, stored, signal);
    await store.create(volume, signal);
    return volume;
  }

  async #restore(
    volumeId: string,
    spec: VolumeSpec,
    stored: readonly BlockVolume[],
    signal: AbortSignal,
  ): Promise<BlockVolume> {
    const { store, log } = this.#options;
    const volume = stored.find((candidate) => candidate.volumeId === volumeId);
    if (!volume) {
      throw volumeError("volume-missing", `volume ${volumeId} is not on this host (any more)`, {
        temporary: false,
      });
    }
    this.#assertTrashed(volume);
    const { setId, tenant, service, generation } = spec;
    if (volume.tags.tenant !== tenant || volume.tags.service !== service)
      throw refused(`volume ${volumeId} is of another service`);
    const tags = { setId, tenant, service, generation, state: "live" } as const;
    await store.retag(volume, tags, signal);
    log.info({ volumeId, setId }, "volume restored");
    return { ...volume, tags };
  }

  /** Purges what may be purged until there is room, oldest first: what is expired, then, if allowed, the rest of the trash. */
  async #makeRoom(
    sizeBytes: number,
    stored: readonly BlockVolume[],
    signal: AbortSignal,
  ): Promise<void> {
    const { store, purgesEarly } = this.#options;
    const nowMs = this.#nowMs();
    const oldestFirst = stored
      .filter(({ tags }) => tags.state === "trashed")
      .toSorted((a, b) => (a.tags.trashedAtMs ?? 0) - (b.tags.trashedAtMs ?? 0));
    const isExpired = ({ tags }: BlockVolume) => (tags.expiresAtMs ?? Infinity) <= nowMs;
    const candidates = [
      ...oldestFirst.filter(isExpired),
      ...(purgesEarly ? oldestFirst.filter((volume) => !isExpired(volume)) : []),
    ];
    for (const volume of candidates) {
      const { freeBytes } = await store.room(signal);
      if (freeBytes >= sizeBytes) return;
      const again = await this.#find(volume.volumeId, signal);
      if (again?.tags.state === "trashed") await this.#destroy(again, "its room is needed", signal);
    }
  }

  /** Grows what is smaller than asked for, and a file system that a crash left smaller than its device. */
  async #fill(
    volume: BlockVolume,
    to: { device: string; mountPoint: string; sizeBytes: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { store } = this.#options;
    if (volume.sizeBytes < to.sizeBytes) await store.grow(volume.volumeId, to.sizeBytes, signal);
    const sizeBytes = Math.max(volume.sizeBytes, to.sizeBytes);
    await fillDevice({ ...to, sizeBytes }, signal);
  }

  async #release(volumeId: string, signal: AbortSignal): Promise<void> {
    const mountPoint = this.#mountPointOf(volumeId);
    if ((await readMounts()).has(mountPoint)) await unmount(mountPoint, signal);
    await this.#options.store.detach(volumeId, signal);
  }

  async #find(volumeId: string, signal: AbortSignal): Promise<BlockVolume | undefined> {
    checkVolumeId(volumeId);
    const stored = await this.#options.store.list(signal);
    return stored.find((candidate) => candidate.volumeId === volumeId);
  }

  #assertTrashed({ volumeId, tags }: BlockVolume): void {
    if (tags.state === "trashed") return;
    throw refused(`volume ${volumeId} is in use by set ${tags.setId}`);
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
function ownVolumeId(setId: string): string {
  return checkVolumeId(setId.replace(/^set_/, "vol_"));
}

/**
 * What containers see is a folder of the file system, not its root: there is no lost+found in it, which databases refuse, and
 * it is not there while the volume is not mounted. Any user of the containers may write to it.
 */
async function makeDataFolder(dataPath: string): Promise<void> {
  const isThere = await stat(dataPath).then(
    () => true,
    () => false,
  );
  if (isThere) return;
  const unfinished = `${dataPath}.new`;
  await mkdir(unfinished, { recursive: true });
  await chmod(unfinished, 0o1777);
  await rename(unfinished, dataPath);
}

function refused(message: string): AgentError {
  return new AgentError("volume-refused", message, { phase: "volume", temporary: false });
}
