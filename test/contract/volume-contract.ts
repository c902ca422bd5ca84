import { afterEach, beforeEach, expect } from "vitest";
import type { BlockStore } from "../../src/agent/adapters/volume/block-store.ts";
import type { FileSystemType } from "../../src/agent/adapters/volume/file-systems.ts";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import type { LocalVolume, VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { StoreOptions } from "../support/volumes/volume-stores.ts";

/** What the suite needs of a backend: a fresh place for volumes, and ways to hurt it. */
export interface VolumeHarness {
  /** Its store, for a process of its own. */
  storeOptions: StoreOptions;
  /** A store as a new life of the agent opens it. */
  openStore(): BlockStore;
  /** Where volumes are mounted. */
  root: string;
  fileSystem: FileSystemType;
  /** Of a volume: the least that the file system likes. */
  sizeBytes: number;
  /** How much room there is for volumes at first: that of six. */
  totalBytes: number;
  /** Takes the name of a set's own volume for somebody else. The answer tells whether what they have is as it was. */
  occupy(volumeId: string): Promise<() => Promise<boolean>>;
  /** Unmounts and detaches everything, as a boot of the host does. */
  reboot(): Promise<void>;
  /** What is left of volumes, whether Berth would list it or not. */
  left(): Promise<string[]>;
  /** Of the steps that a crash may come after, each so many-th is tried; 1 where there is time for all. */
  crashStride: number;
  /**
   * The same of the moments at which a process is killed, right before and right after each change of the store. With 2 it is
   * right before only: after what was done in between, to the file system or its mount.
   */
  killStride: number;
  close(): Promise<void>;
}

export const MiB = 2 ** 20;
export const retentionMs = 3_600_000;
/** What a file system may keep for itself. */
export const overheadShareMax = 0.35;
/** The control plane's clock is no earlier than the host's. */
export const nothingWanted = { atMs: Infinity, wantedVolumeIds: new Set<string>() };
export const { signal } = new AbortController();

/** What the parts of the suite share: for each test a fresh place for volumes, and a port to it. */
export class VolumeContract {
  /** False where the kernel does not let this process grow a mounted file system of this type. */
  readonly growsOnline: boolean;
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

  /** As a new life of the agent does, once it has heard of the control plane. */
  openPort(changes: { store?: BlockStore; purgesEarly?: boolean } = {}): VolumePort {
    const opened = this.openDeafPort(changes);
    opened.heed(nothingWanted);
    return opened;
  }

  openDeafPort(changes: { store?: BlockStore; purgesEarly?: boolean } = {}): VolumePort {
    const { root, fileSystem } = this.harness;
    return createVolumes({
      store: this.harness.openStore(),
      root,
      fileSystem,
      retentionMs,
      purgesEarly: false,
      log: silentLog,
      nowMs: () => this.nowMs,
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
