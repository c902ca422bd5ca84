import type { OtherHostVolumes } from "../../contracts/api/host-capabilities.ts";

/**
 * The agent's operations on the volumes of its host. Two backends store the blocks
 * (host-adapters/volumes): LVM, and image files behind loop devices. Both pass the suite in
 * test/contract/volume-port.ts.
 *
 * Every call is idempotent, and the next call for the same set completes the work that a crash
 * interrupted. Calls for one set never overlap, and calls for one volume wait for each other. A
 * call rejects with AgentError. A call never changes a volume without this host's tag, whatever its
 * name.
 *
 * A call destroys only the data of a trashed volume whose retention has ended. Where the host
 * allows it, it also destroys trashed volumes when it needs their space. Both require the control
 * plane's time and wanted volumes from `updateRetention` (I7, I12).
 */
export interface VolumePort {
  /**
   * Lists this host's volumes by id: live, trashed and unfinished ones, mounted or not. The list
   * omits volumes with unreadable tags, so it does not prove that a volume is absent.
   */
  list(signal: AbortSignal): Promise<LocalVolume[]>;
  /** Lists the same volumes, the ids of those with unreadable tags, and the other hosts. */
  listAll(signal: AbortSignal): Promise<VolumeListing>;
  /**
   * Ensures that the set's volume exists, has at least `sizeBytes`, and is mounted. Creates a
   * missing volume, or restores `restoreFrom` from the trash. Grows the blocks and the file system
   * online, and never shrinks them. Rejects with `volume-missing` if the set had a volume that has
   * vanished, and creates no empty one. A growth that fails leaves the mounted volume with its
   * previous size. Returns the size of the file system.
   */
  ensure(
    spec: VolumeSpec,
    signal: AbortSignal,
  ): Promise<{ volumeId: string; dataPath: string; sizeBytes: number }>;
  /**
   * The path of a set's data after `ensure` resolves. A container may be created with the path
   * earlier, but must not start.
   */
  getDataPath(spec: Pick<VolumeSpec, "setId" | "restoreFrom">): string;
  /**
   * Updates the facts that decide when a trashed volume expires. The port retains trashed volumes
   * that sets want, whatever their expiry. It expires other volumes by the control plane's clock
   * alone. So neither a step of the host's clock nor an unseen restore destroys data.
   */
  updateRetention(facts: {
    controlPlaneTimeMs: number;
    wantedVolumeIds: ReadonlySet<string>;
  }): void;
  /**
   * Unmounts a set's volume and retains it: without an expiry, until `startRetention`. Does nothing
   * for a set without a volume.
   */
  trash(setId: string, signal: AbortSignal): Promise<void>;
  /**
   * Starts the retention of a trashed volume, at a time of the control plane that is later than its
   * move to the trash. Does nothing if it has started, or if the volume is not in the trash.
   */
  startRetention(volumeId: string, trashedAtMs: number, signal: AbortSignal): Promise<void>;
  /** Ends the retention of a trashed volume immediately, because a user requested it. */
  expire(volumeId: string, signal: AbortSignal): Promise<void>;
  /**
   * Destroys a trashed volume whose retention has ended. Refuses any other volume; a missing volume
   * is not an error.
   */
  purge(volumeId: string, signal: AbortSignal): Promise<void>;
  capacity(signal: AbortSignal): Promise<VolumeCapacity>;
}

export interface VolumeSpec {
  setId: string;
  tenant: string;
  service: string;
  generation: number;
  sizeBytes: number;
  /** A trashed volume of the same service that becomes the set's volume. */
  restoreFrom?: string | undefined;
  /** True if the call resolves although a growth failed. The default is false. */
  acceptsSmaller?: boolean | undefined;
}

export interface LocalVolume {
  volumeId: string;
  /** The current or last set of the volume. */
  setId: string;
  tenant: string;
  service: string;
  /** `new`: never mounted. The next call for its set completes or deletes it. */
  state: "new" | "live" | "trashed";
  /** Size of the file system, which is less than the blocks while the volume grows. */
  sizeBytes: number;
  /** Bytes that the file system stores; undefined while the volume is not mounted. */
  usedBytes: number | undefined;
  /** Times of the control plane. Only for trashed volumes whose retention has started. */
  trashedAtMs: number | undefined;
  expiresAtMs: number | undefined;
}

interface VolumeListing {
  volumes: LocalVolume[];
  /** Ids of volumes with unreadable tags, sorted. The port never changes them. */
  unreadable: string[];
  /** Other hosts that have volumes on this machine, at most 16. The port never changes these. */
  otherHosts: OtherHostVolumes[];
}

export interface VolumeCapacity {
  totalBytes: number;
  /** Bytes of all volumes, including trashed ones. */
  usedBytes: number;
  /**
   * Bytes available for a new volume; less than the rest if other programs write to the same disk.
   */
  freeBytes: number;
  /** Bytes of trashed volumes that the host may purge when it needs space. */
  reclaimableBytes: number;
  /** Bytes of all trashed volumes. */
  trashedBytes: number;
  /** True if the store cannot record more volumes. Then `freeBytes` is 0. */
  isMetadataFull: boolean;
  /** Ids of volumes with unreadable tags. The port never changes them. */
  unreadable: string[];
}
