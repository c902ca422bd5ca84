/**
 * What the agent can do to the volumes of its host. Two backends keep the blocks (adapters/volume: LVM, or image files behind
 * loop devices); both pass the same contract suite (test/contract/volume-port.ts).
 *
 * Every call is idempotent, and whatever a crash left half done is finished by the next call for the same set. Calls for one
 * set never overlap; those for one volume wait for each other. A call rejects with AgentError. What is not tagged as this host's
 * is never touched, whatever its name. Bytes are destroyed only of a trashed volume whose retention is over, or, where the host
 * may, when its room is needed; and only once the control plane was heard of it (`heed`): I7, I12.
 */
export interface VolumePort {
  /** Everything of this host's, mounted or not, trashed or not, finished or not; by id. */
  list(signal: AbortSignal): Promise<LocalVolume[]>;
  /**
   * The set's volume, mounted: made if there is none, brought back from the trash if `restoreFrom` says so, and grown with its
   * file system, in use or not, when it is smaller than asked for. It never shrinks. One that the set had and that has
   * vanished is not made anew: `volume-missing`.
   */
  ensure(spec: VolumeSpec, signal: AbortSignal): Promise<{ volumeId: string; dataPath: string }>;
  /**
   * Where a set's data will be once `ensure` has resolved. A container may be created with it before, not started.
   */
  dataPathOf(spec: Pick<VolumeSpec, "setId" | "restoreFrom">): string;
  /**
   * What the control plane has said last. Trashed volumes that sets are to have are kept, whatever their expiry; others are expired
   * only by both clocks, so that none is destroyed on the word of one that jumped, or before a restore was heard of.
   */
  heed(known: { atMs: number; wantedVolumeIds: ReadonlySet<string> }): void;
  /** Unmounts a set's volume and keeps it for the retention time. Nothing to do when the set has none. */
  trash(setId: string, signal: AbortSignal): Promise<void>;
  /** Ends the retention of a trashed volume now, on the word of a person. */
  expire(volumeId: string, signal: AbortSignal): Promise<void>;
  /** Destroys a trashed volume whose retention is over. Anything else is refused; what is gone is no error. */
  purge(volumeId: string, signal: AbortSignal): Promise<void>;
  room(signal: AbortSignal): Promise<VolumeRoom>;
}

export interface VolumeSpec {
  setId: string;
  tenant: string;
  service: string;
  generation: number;
  sizeBytes: number;
  /** A trashed volume of the same service, to be the set's from now on. */
  restoreFrom?: string | undefined;
}

export interface LocalVolume {
  volumeId: string;
  /** Whom it serves, or served last. */
  setId: string;
  tenant: string;
  service: string;
  /** new: it was never mounted, and is finished or removed by the next call for its set. */
  state: "new" | "live" | "trashed";
  /** What its file system fills: less than its blocks while it is being grown. */
  sizeBytes: number;
  /** What its file system holds; undefined while it is not mounted. */
  usedBytes: number | undefined;
  /** Of trashed ones. */
  trashedAtMs: number | undefined;
  expiresAtMs: number | undefined;
}

export interface VolumeRoom {
  totalBytes: number;
  /** What volumes take, trashed ones included. */
  usedBytes: number;
  /** What a new one may take; less than the rest where others write to the same disk. */
  freeBytes: number;
  /** Of trashed volumes that may be purged as soon as their room is needed. */
  reclaimableBytes: number;
  /** Of all that is trashed. */
  trashedBytes: number;
  /** Ids of volumes whose tags cannot be read; they are left as they are. */
  unreadable: string[];
}
