import { afterEach, beforeEach, expect } from "vitest";
import type { BlockStore } from "../../src/host-adapters/volumes/block-store.ts";
import type { FileSystemType } from "../../src/host-adapters/volumes/file-systems.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import type { LocalVolume, VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { StoreOptions } from "../support/volumes/volume-stores.ts";

/** Requirements of the suite for a backend: an empty place for volumes, and ways to disturb it. */
export interface VolumeHarness {
  /** Options with which another process opens the store. */
  storeOptions: StoreOptions;
  /** Opens the store like a restarted agent. */
  openStore(): BlockStore;
  /** The folder of the mount points. */
  root: string;
  fileSystem: FileSystemType;
  /** Size of a volume: the minimum of the file system. */
  sizeBytes: number;
  /** Initial capacity for volumes: six volumes of `sizeBytes`. */
  totalBytes: number;
  /**
   * Occupies the name of a set's own volume with a foreign one. The returned function reports
   * whether the foreign content is intact.
   */
  occupy(volumeId: string): Promise<() => Promise<boolean>>;
  /** The path of the file or device with a volume's blocks. */
  blocksOf(volumeId: string): string;
  /** Unmounts and detaches everything, like a reboot of the host. */
  reboot(): Promise<void>;
  /** All remaining volumes, including those that Berth would not list. */
  left(): Promise<string[]>;
  /** The suite crashes after every n-th step; 1 means after each step. */
  crashStride: number;
  /**
   * The suite kills a process at every n-th moment; each change of the store has a moment before it
   * and one after it. With 2, it kills only before a change, that is after the work on the file
   * system or the mount.
   */
  killStride: number;
  close(): Promise<void>;
}

export const MiB = 2 ** 20;
export const retentionMs = 3_600_000;
/** The largest share of a volume that a file system may use for itself. */
export const overheadShareMax = 0.35;
/** No set wants a trashed volume. */
export const nothingWanted = {
  controlPlaneTimeMs: Date.parse("2100-01-01"),
  wantedVolumeIds: new Set<string>(),
};
export const { signal } = new AbortController();

/**
 * The state that the parts of the suite share: for each test an empty place for volumes, and a port
 * to it.
 */
export class VolumeContract {
  /** False if the kernel does not let this process grow a mounted file system of this type. */
  readonly growsOnline: boolean;
  /** The control plane's time. */
  nowMs = 0;
  #harness: VolumeHarness | undefined;
  #port: VolumePort | undefined;

  constructor(
    openHarness: () => Promise<VolumeHarness>,
    { growsOnline }: { growsOnline: boolean },
  ) {
    this.growsOnline = growsOnline;
    beforeEach(async () => {
      this.#harness = await openHarness();
      this.nowMs = Date.parse("2026-01-01T00:00:00Z");
      this.#port = this.openPort();
    });
    afterEach(() => this.#harness?.close());
  }

  get harness(): VolumeHarness {
    if (!this.#harness) throw new Error("a test is running");
    return this.#harness;
  }

  get port(): VolumePort {
    return (this.#port ??= this.openPort());
  }

  get sizeBytes(): number {
    return this.harness.sizeBytes;
  }

  /** Opens the port like a restarted agent after the control plane's first answer. */
  openPort(changes: { store?: BlockStore; purgesEarly?: boolean } = {}): VolumePort {
    const opened = this.openUnsyncedPort(changes);
    const getNowMs = () => this.nowMs;
    opened.updateRetention({
      ...nothingWanted,
      get controlPlaneTimeMs() {
        return getNowMs();
      },
    });
    return opened;
  }

  /** Trashes a set's volume, and starts its retention as the next answer of the API does. */
  async trash({ setId }: VolumeSpec, of: VolumePort = this.port): Promise<void> {
    await of.trash(setId, signal);
    await this.startRetentions(of);
  }

  async startRetentions(of: VolumePort = this.port): Promise<void> {
    for (const { volumeId } of await of.list(signal))
      await of.startRetention(volumeId, this.nowMs, signal);
  }

  openUnsyncedPort(changes: { store?: BlockStore; purgesEarly?: boolean } = {}): VolumePort {
    const { root, fileSystem } = this.harness;
    return createVolumes({
      store: this.harness.openStore(),
      root,
      fileSystem,
      retentionMs,
      purgesEarly: false,
      log: silentLog,
      ...changes,
    });
  }

  newSpec(changes: Partial<VolumeSpec> = {}): VolumeSpec {
    return {
      setId: newId("set"),
      tenant: "default",
      service: "db",
      generation: 1,
      sizeBytes: this.sizeBytes,
      ...changes,
    };
  }

  async only(of: VolumePort = this.port): Promise<LocalVolume> {
    const [volume, ...others] = await of.list(signal);
    expect(others).toEqual([]);
    if (!volume) throw new Error("there is no volume");
    return volume;
  }
}
