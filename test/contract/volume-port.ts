import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BlockStore } from "../../src/agent/adapters/volume/block-store.ts";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import type { FileSystemType } from "../../src/agent/adapters/volume/file-systems.ts";
import type { LocalVolume, VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { appendUntil, checked, fill, isSorted } from "../support/volume-files.ts";

/** What the suite needs of a backend: a fresh place for volumes, and ways to hurt it. */
export interface VolumeHarness {
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
  /** Of the steps that a crash may come after, each so many-th is tried; 1 where there is time for all. */
  crashStride: number;
  close(): Promise<void>;
}

const MiB = 2 ** 20;
const retentionMs = 3_600_000;

/**
 * The contract of VolumePort (src/agent/ports/volume-port.ts), for every backend.
 * @param growsOnline false where the kernel does not let this process grow a mounted file system of this type
 */
export function describeVolumePort(
  backend: string,
  { growsOnline }: { growsOnline: boolean },
  openHarness: () => Promise<VolumeHarness>,
): void {
  describe(`VolumePort: ${backend}`, () => {
    let harness: VolumeHarness;
    let port: VolumePort;
    let sizeBytes: number;
    /** What a file system may keep for itself. */
    let overheadBytesMax: number;
    let nowMs: number;
    const { signal } = new AbortController();

    const openPort = (changes: { store?: BlockStore; purgesEarly?: boolean } = {}): VolumePort =>
      createVolumes({
        store: harness.openStore(),
        root: harness.root,
        fileSystem: harness.fileSystem,
        retentionMs,
        purgesEarly: false,
        log: silentLog,
        nowMs: () => nowMs,
        ...changes,
      });

    beforeEach(async () => {
      harness = await openHarness();
      sizeBytes = harness.sizeBytes;
      overheadBytesMax = sizeBytes * 0.35;
      nowMs = Date.parse("2026-01-01T00:00:00Z");
      port = openPort();
    });
    afterEach(() => harness.close());

    const newSpec = (changes: Partial<VolumeSpec> = {}): VolumeSpec => ({
      setId: newId("set"),
      tenant: "default",
      service: "db",
      generation: 1,
      sizeBytes,
      ...changes,
    });
    const only = async (of: VolumePort = port): Promise<LocalVolume> => {
      const [volume, ...others] = await of.list(signal);
      expect(others).toEqual([]);
      if (!volume) throw new Error("there is no volume");
      return volume;
    };

    it("makes a volume, mounted and writable by anybody, and says so", async () => {
      const spec = newSpec();
      const made = await port.ensure(spec, signal);
      expect(made.dataPath).toBe(port.dataPathOf(spec));
      await writeFile(join(made.dataPath, "file"), "written");
      expect(await only()).toEqual({
        volumeId: made.volumeId,
        setId: spec.setId,
        tenant: "default",
        service: "db",
        state: "live",
        sizeBytes,
        usedBytes: expect.any(Number),
        trashedAtMs: undefined,
        expiresAtMs: undefined,
      });
      const room = await port.room(signal);
      expect(room).toEqual({
        totalBytes: harness.totalBytes,
        usedBytes: sizeBytes,
        freeBytes: harness.totalBytes - sizeBytes,
        reclaimableBytes: 0,
      });
      expect(await port.ensure(spec, signal)).toEqual(made);
      expect(await readFile(join(made.dataPath, "file"), "utf8")).toBe("written");
    });

    it("is a hard limit: a full volume says ENOSPC, and its neighbour does not notice", async () => {
      const full = await port.ensure(newSpec(), signal);
      const neighbour = await port.ensure(newSpec(), signal);
      const written = await fill(full.dataPath);
      expect(written).toBeLessThanOrEqual(sizeBytes);
      expect(written).toBeGreaterThan(sizeBytes - overheadBytesMax);
      await checked(neighbour.dataPath, 8 * MiB);
    });

    it.runIf(growsOnline)(
      "grows with its file system while it is written to, and keeps every byte",
      async () => {
        const spec = newSpec();
        const { dataPath } = await port.ensure(spec, signal);
        const before = await checked(dataPath, 8 * MiB);
        const writing = new AbortController();
        const written = appendUntil(join(dataPath, "log"), writing.signal);
        await delay(20);
        await port.ensure({ ...spec, sizeBytes: 2 * sizeBytes }, signal);
        writing.abort();
        expect(await isSorted(join(dataPath, "log"), await written)).toBe(true);
        expect(await before()).toBe(true);
        expect(await fill(dataPath)).toBeGreaterThan(2 * sizeBytes - 2 * overheadBytesMax);
        expect(await only()).toMatchObject({ sizeBytes: 2 * sizeBytes });
        await port.ensure(spec, signal); // an older wish
        expect(await only()).toMatchObject({ sizeBytes: 2 * sizeBytes });
      },
    );

    it("trashes a volume with its expiry, and restores it into a new set of the same service", async () => {
      const spec = newSpec();
      const { volumeId, dataPath } = await port.ensure(spec, signal);
      const check = await checked(dataPath, MiB);
      await port.trash(spec.setId, signal);
      expect(await only()).toMatchObject({
        volumeId,
        state: "trashed",
        usedBytes: undefined,
        trashedAtMs: nowMs,
        expiresAtMs: nowMs + retentionMs,
      });
      await expect(readFile(join(dataPath, "data"))).rejects.toMatchObject({ code: "ENOENT" });
      await port.trash(spec.setId, signal); // again: nothing, not even a later expiry
      const other = newSpec({ restoreFrom: volumeId, service: "web" });
      await expect(port.ensure(other, signal)).rejects.toMatchObject({ code: "volume-refused" });
      const heir = newSpec({ restoreFrom: volumeId, generation: 7 });
      expect(await port.ensure(heir, signal)).toEqual({
        volumeId,
        dataPath: port.dataPathOf(heir),
      });
      expect(await check()).toBe(true);
      expect(await only()).toMatchObject({ setId: heir.setId, state: "live" });
      expect(await port.ensure(heir, signal)).toMatchObject({ volumeId });
      const late = newSpec({ restoreFrom: volumeId });
      await expect(port.ensure(late, signal)).rejects.toMatchObject({ code: "volume-refused" });
    });

    it("I7: gives a set that comes back to its host what it had there", async () => {
      const spec = newSpec();
      const { volumeId, dataPath } = await port.ensure(spec, signal);
      const check = await checked(dataPath, MiB);
      await port.trash(spec.setId, signal);
      expect(await port.ensure({ ...spec, generation: 9 }, signal)).toEqual({ volumeId, dataPath });
      expect(await check()).toBe(true);
      expect(await only()).toMatchObject({ state: "live", expiresAtMs: undefined });
    });

    it("I7: purges what is trashed and expired, and nothing else", async () => {
      const spec = newSpec();
      const { volumeId } = await port.ensure(spec, signal);
      await expect(port.purge(volumeId, signal)).rejects.toThrow("is in use by set");
      await expect(port.expire(volumeId, signal)).rejects.toThrow("is in use by set");
      await port.trash(spec.setId, signal);
      await expect(port.purge(volumeId, signal)).rejects.toThrow("is kept until 2026-01-01T01:00");
      nowMs += retentionMs;
      expect(await port.room(signal)).toMatchObject({ reclaimableBytes: sizeBytes });
      await port.purge(volumeId, signal);
      expect(await port.list(signal)).toEqual([]);
      expect(await port.room(signal)).toMatchObject({ freeBytes: harness.totalBytes });
      await port.purge(volumeId, signal); // it is gone
    });

    it("purges on the word of a person before its time", async () => {
      const spec = newSpec();
      const { volumeId } = await port.ensure(spec, signal);
      await port.trash(spec.setId, signal);
      await port.expire(volumeId, signal);
      await port.purge(volumeId, signal);
      expect(await port.list(signal)).toEqual([]);
    });

    it("I7: makes room of what is expired; of the rest of the trash, oldest first, only if it may", async () => {
      const large = Math.floor(harness.totalBytes / 2 / (4 * MiB)) * 4 * MiB - 4 * MiB;
      const [first, second] = [newSpec({ sizeBytes: large }), newSpec({ sizeBytes: large })];
      for (const spec of [first, second]) {
        await port.ensure(spec, signal);
        await port.trash(spec.setId, signal);
        nowMs += 1_000;
      }
      const third = newSpec({ sizeBytes: large });
      await expect(port.ensure(third, signal)).rejects.toMatchObject({
        code: "volume-no-room",
        temporary: true,
      });
      expect(await port.list(signal)).toHaveLength(2);
      expect(await port.room(signal)).toMatchObject({ reclaimableBytes: 0 });
      const eager = openPort({ purgesEarly: true });
      expect(await eager.room(signal)).toMatchObject({ reclaimableBytes: 2 * large });
      await eager.ensure(third, signal);
      const left = await port.list(signal);
      expect(left.map(({ setId }) => setId).sort()).toEqual([second.setId, third.setId].sort());
      nowMs += retentionMs;
      await port.ensure(newSpec({ sizeBytes: large }), signal);
      expect((await port.list(signal)).map(({ state }) => state)).toEqual(["live", "live"]);
    });

    it("I4: leaves alone what only has the name of a volume", async () => {
      const spec = newSpec();
      const isUntouched = await harness.occupy(spec.setId.replace("set_", "vol_"));
      await expect(port.ensure(spec, signal)).rejects.toMatchObject({
        code: "volume-foreign",
        temporary: false,
      });
      await port.trash(spec.setId, signal);
      expect(await port.list(signal)).toEqual([]);
      expect(await isUntouched()).toBe(true);
    });

    it("lets nothing from outside become a path, an argument or a tag unseen", async () => {
      for (const setId of ["set_../../etc", "set_", "-rf", "set_a b", "set_a\0", "vol_a/../b"]) {
        await expect(port.ensure(newSpec({ setId }), signal)).rejects.toMatchObject({
          code: "volume-invalid",
        });
      }
      const odd = [{ tenant: "a b" }, { service: "--force" }, { tenant: "" }, { generation: -1 }];
      for (const changes of [...odd, { sizeBytes: 0 }, { sizeBytes: 1.5 }, { sizeBytes: NaN }]) {
        await expect(port.ensure(newSpec(changes), signal)).rejects.toMatchObject({
          code: "volume-invalid",
        });
      }
      for (const volumeId of ["../x", "vol_/", "vol_A", ""]) {
        await expect(port.purge(volumeId, signal)).rejects.toMatchObject({
          code: "volume-invalid",
        });
      }
      expect(await port.list(signal)).toEqual([]);
    });

    it("is mounted again with its data after a boot of the host", async () => {
      const spec = newSpec();
      const check = await checked((await port.ensure(spec, signal)).dataPath, MiB);
      await harness.reboot();
      const next = openPort();
      expect(await only(next)).toMatchObject({ state: "live", usedBytes: undefined });
      await expect(writeFile(join(next.dataPathOf(spec), "lost"), "")).rejects.toThrow();
      await next.ensure(spec, signal);
      expect(await check()).toBe(true);
    });

    it("stays while somebody uses it, and is trashed afterwards", async () => {
      const spec = newSpec();
      const { dataPath } = await port.ensure(spec, signal);
      const file = await open(join(dataPath, "open"), "w");
      await expect(port.trash(spec.setId, signal)).rejects.toMatchObject({
        code: "volume-busy",
        temporary: true,
      });
      expect(await only()).toMatchObject({ state: "live", usedBytes: expect.any(Number) });
      await file.close();
      await port.trash(spec.setId, signal);
      expect(await only()).toMatchObject({ state: "trashed" });
    });

    it("goes on after a crash between any two steps of its life, and loses no byte", async () => {
      const grownBytes = growsOnline ? sizeBytes * 1.5 : sizeBytes;
      for (let step = 1, killed = true; killed; step += harness.crashStride) {
        const spec = newSpec();
        const heir = newSpec();
        let check: (() => Promise<boolean>) | undefined;
        const life: ((of: VolumePort) => Promise<unknown>)[] = [
          async (of) => {
            const { dataPath } = await of.ensure(spec, signal);
            check ??= await checked(dataPath, MiB);
          },
          (of) => of.ensure({ ...spec, sizeBytes: grownBytes }, signal),
          (of) => of.trash(spec.setId, signal),
          async (of) => {
            heir.restoreFrom ??= (await only(of)).volumeId;
            await of.ensure(heir, signal);
          },
          (of) => of.trash(heir.setId, signal),
        ];
        let callsLeft = step;
        let current = openPort({
          store: mortalStore(harness.openStore(), () => --callsLeft === 0),
        });
        killed = false;
        for (const act of life) {
          await act(current).catch(async (error: unknown) => {
            if (!(error instanceof Killed)) throw error;
            killed = true;
            if (step % 2 === 0) await harness.reboot();
            current = openPort();
            await act(current);
          });
        }
        const back = newSpec({ restoreFrom: (await only()).volumeId });
        await port.ensure(back, signal);
        expect(await only()).toMatchObject({ sizeBytes: grownBytes });
        expect(await check?.()).toBe(true);
        await port.trash(back.setId, signal);
        nowMs += retentionMs;
        const dying = mortalStore(harness.openStore(), () => step % 3 === 0);
        const { volumeId } = await only();
        await openPort({ store: dying })
          .purge(volumeId, signal)
          .catch((error: unknown) => expect(error).toBeInstanceOf(Killed));
        await openPort().purge(volumeId, signal);
        expect(await openPort().list(signal)).toEqual([]);
        expect(await openPort().room(signal)).toMatchObject({ freeBytes: harness.totalBytes });
      }
    }, 120_000);
  });
}

class Killed extends Error {}

/** A store of a process that is killed right before or right after a call that changes something. */
function mortalStore(store: BlockStore, isLast: () => boolean): BlockStore {
  const changes = new Set<PropertyKey>(["create", "retag", "grow", "attach", "detach", "remove"]);
  let isDead = false;
  const die = (property: PropertyKey): void => {
    isDead ||= changes.has(property) && isLast();
    if (isDead) throw new Killed();
  };
  return new Proxy(store, {
    get(target, property) {
      const call = Reflect.get(target, property) as (...args: unknown[]) => Promise<unknown>;
      return async (...args: unknown[]) => {
        die(property);
        const result = await call.apply(target, args);
        die(property);
        return result;
      };
    },
  });
}
