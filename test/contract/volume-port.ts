import { execFile } from "node:child_process";
import { open, readFile, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { AgentError } from "../../src/agent/base/agent-error.ts";
import { ProcessKilled } from "../support/volumes/killable-store.ts";
import { appendUntil, checked, fill, isSorted } from "../support/volumes/volume-files.ts";
import {
  MiB,
  overheadShareMax,
  retentionMs,
  signal,
  VolumeContract,
  type VolumeHarness,
} from "./volume-contract.ts";
import { describeFaults } from "./volume-faults.ts";
import { describeHolders, describeSignatures } from "./volume-holders.ts";
import { describeTrash } from "./volume-trash.ts";

const run = promisify(execFile);

/**
 * The contract of VolumePort (src/agent/ports/volume-port.ts), for every backend.
 *
 * @param growsOnline false if the kernel does not let this process grow a mounted file system of
 *   this type
 * @param isLifecycleOnly skips trash and faults, which do not depend on the file system; for a
 *   backend's second type, to save time
 */
export function describeVolumePort(
  backend: string,
  { growsOnline, isLifecycleOnly = false }: { growsOnline: boolean; isLifecycleOnly?: boolean },
  openHarness: () => Promise<VolumeHarness>,
): void {
  describe(`VolumePort: ${backend}`, () => {
    const contract = new VolumeContract(openHarness, { growsOnline });
    describeLifecycle(contract);
    describeSignatures(contract);
    if (isLifecycleOnly) return;
    describeTrash(contract);
    describeFaults(contract);
    describeHolders(contract);
  });
}

function describeLifecycle(c: VolumeContract): void {
  it("creates and lists a mounted volume that any user may write to", async () => {
    const spec = c.newSpec();
    const made = await c.port.ensure(spec, signal);
    expect(made.dataPath).toBe(c.port.getDataPath(spec));
    await writeFile(join(made.dataPath, "file"), "written");
    expect(await c.only()).toEqual({
      volumeId: made.volumeId,
      setId: spec.setId,
      tenant: "default",
      service: "db",
      state: "live",
      sizeBytes: c.sizeBytes,
      usedBytes: expect.any(Number),
      trashedAtMs: undefined,
      expiresAtMs: undefined,
    });
    const capacity = await c.port.capacity(signal);
    expect(capacity).toEqual({
      totalBytes: c.harness.totalBytes,
      usedBytes: c.sizeBytes,
      freeBytes: c.harness.totalBytes - c.sizeBytes,
      reclaimableBytes: 0,
      trashedBytes: 0,
      isMetadataFull: false,
      unreadable: [],
    });
    expect(await c.port.ensure(spec, signal)).toEqual(made);
    expect(await readFile(join(made.dataPath, "file"), "utf8")).toBe("written");
  });

  it("uses the same block size for a small volume as for the large one that it may become", async () => {
    const { dataPath } = await c.port.ensure(c.newSpec(), signal);
    expect((await statfs(dataPath)).bsize).toBe(4_096);
  });

  it("limits writes: a full volume returns ENOSPC, and another volume is not affected", async () => {
    const full = await c.port.ensure(c.newSpec(), signal);
    const neighbor = await c.port.ensure(c.newSpec(), signal);
    const written = await fill(full.dataPath);
    expect(written).toBeLessThanOrEqual(c.sizeBytes);
    expect(written).toBeGreaterThan(c.sizeBytes - c.sizeBytes * overheadShareMax);
    await checked(neighbor.dataPath, 8 * MiB);
  });

  it.runIf(c.growsOnline)(
    "grows a volume and its file system during writes, and loses no byte",
    async () => {
      const spec = c.newSpec();
      const { dataPath } = await c.port.ensure(spec, signal);
      const before = await checked(dataPath, 8 * MiB);
      const writing = new AbortController();
      const written = appendUntil(join(dataPath, "log"), writing.signal);
      await delay(20);
      await c.port.ensure({ ...spec, sizeBytes: 2 * c.sizeBytes }, signal);
      writing.abort();
      expect(await isSorted(join(dataPath, "log"), await written)).toBe(true);
      expect(await before()).toBe(true);
      expect(await fill(dataPath)).toBeGreaterThan(
        2 * c.sizeBytes - 2 * c.sizeBytes * overheadShareMax,
      );
      expect(await c.only()).toMatchObject({ sizeBytes: 2 * c.sizeBytes });
      await c.port.ensure(spec, signal); // an older generation
      expect(await c.only()).toMatchObject({ sizeBytes: 2 * c.sizeBytes });
    },
  );

  it.runIf(c.growsOnline)(
    "lists the size of the file system while a growth is incomplete",
    async () => {
      const spec = c.newSpec();
      await c.port.ensure(spec, signal);
      const store = c.harness.openStore();
      const grow = store.grow.bind(store);
      store.grow = async (...args) => {
        await grow(...args);
        throw new ProcessKilled();
      };
      const larger = { ...spec, sizeBytes: 1.5 * c.sizeBytes };
      await expect(c.openPort({ store }).ensure(larger, signal)).rejects.toThrow(ProcessKilled);
      expect(await c.only(c.openPort())).toMatchObject({ sizeBytes: c.sizeBytes });
      const { dataPath } = await c.openPort().ensure(larger, signal);
      expect(await c.only(c.openPort())).toMatchObject({ sizeBytes: 1.5 * c.sizeBytes });
      expect(await fill(dataPath)).toBeGreaterThan(
        1.5 * c.sizeBytes - 2 * c.sizeBytes * overheadShareMax,
      );
    },
  );

  it("completes a growth that is no longer wanted, because the kernel may still be growing", async () => {
    const spec = c.newSpec();
    const { volumeId, dataPath } = await c.port.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    const { store, tags } = await beginGrowth(c, 1.5 * c.sizeBytes);
    await c.openPort().ensure({ ...spec, generation: 2 }, signal);
    const listed = (await store.list(signal)).volumes[0];
    expect(listed).toMatchObject({ volumeId, sizeBytes: 1.5 * c.sizeBytes });
    const growingFromBytes = c.growsOnline ? undefined : c.sizeBytes;
    expect(listed?.tags).toEqual({ ...tags, generation: 2, growingFromBytes });
    expect(await check()).toBe(true);
    await c.harness.reboot();
    await c.openPort().ensure(spec, signal);
    expect(await check()).toBe(true);
  });

  it("a file system that does not grow leaves its blocks and the tag, and a later growth succeeds", async () => {
    const spec = c.newSpec();
    const { dataPath } = await c.port.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    // A file system that is read-only does not grow.
    const remount = (mode: string) => run("mount", ["-o", `remount,${mode}`, dirname(dataPath)]);
    await remount("ro");
    const larger = { ...spec, sizeBytes: 1.5 * c.sizeBytes };
    const begun = { sizeBytes: larger.sizeBytes, tags: { growingFromBytes: c.sizeBytes } };
    const listBlocks = async () => (await c.harness.openStore().list(signal)).volumes[0];
    // The second call finds the tag, as a restarted agent does.
    for (const port of [c.port, c.openPort()]) {
      await expect(port.ensure(larger, signal)).rejects.toMatchObject({ code: "volume-failed" });
      expect(await listBlocks()).toMatchObject(begun);
    }
    expect(await c.port.ensure({ ...larger, acceptsSmaller: true }, signal)).toMatchObject({
      sizeBytes: c.sizeBytes,
    });
    // The size is rolled back.
    expect(await c.openPort().ensure(spec, signal)).toMatchObject({ sizeBytes: c.sizeBytes });
    expect(await listBlocks()).toMatchObject(begun);
    expect(await c.only()).toMatchObject({ sizeBytes: c.sizeBytes });
    await remount("rw");
    expect(await check()).toBe(true);
    if (!c.growsOnline) return;
    expect(await c.port.ensure(larger, signal)).toMatchObject({ sizeBytes: 1.5 * c.sizeBytes });
    expect((await listBlocks())?.tags.growingFromBytes).toBeUndefined();
    expect(await check()).toBe(true);
  });

  it("blocks that the store fails to grow are returned, unless an earlier growth may still run", async () => {
    const spec = c.newSpec();
    const { volumeId, dataPath } = await c.port.ensure(spec, signal);
    const before = await statfs(dataPath);
    const larger = { ...spec, sizeBytes: 1.5 * c.sizeBytes };
    const store = c.harness.openStore();
    const grow = store.grow.bind(store);
    store.grow = async (...args) => {
      await grow(...args);
      throw new AgentError("volume-failed", "half of the work", {
        phase: "volume",
        temporary: true,
      });
    };
    const port = c.openPort({ store });
    await expect(port.ensure(larger, signal)).rejects.toMatchObject({ code: "volume-failed" });
    const listBlocks = async () => (await store.list(signal)).volumes[0];
    expect(await listBlocks()).toMatchObject({ volumeId, sizeBytes: c.sizeBytes });
    expect((await listBlocks())?.tags.growingFromBytes).toBeUndefined();
    const { sizeBytes } = await beginGrowth(c, 1.25 * c.sizeBytes);
    await expect(port.ensure(larger, signal)).rejects.toMatchObject({ code: "volume-failed" });
    const listed = await listBlocks();
    expect(listed?.sizeBytes).toBeGreaterThanOrEqual(sizeBytes);
    expect(listed?.tags.growingFromBytes).toBe(c.sizeBytes);
    // The file system uses the blocks of the earlier growth, although no more are available.
    if (!c.growsOnline) return;
    expect((await statfs(dataPath)).blocks).toBeGreaterThan(1.1 * before.blocks);
  });

  it.runIf(c.growsOnline)(
    "completes a growth in part of the file system, and loses no byte",
    async () => {
      const spec = c.newSpec();
      const larger = { ...spec, sizeBytes: 1.5 * c.sizeBytes };
      const check = await checked((await c.port.ensure(larger, signal)).dataPath, MiB);
      // The state after a kill during the growth of the file system.
      const store = c.harness.openStore();
      const [volume] = (await store.list(signal)).volumes;
      if (!volume) throw new Error("it is listed");
      await store.retag(volume, { ...volume.tags, growingFromBytes: c.sizeBytes }, signal);
      await store.grow(volume.volumeId, 2 * c.sizeBytes, signal);
      await c.openPort().ensure(spec, signal);
      expect(await c.only(c.openPort())).toMatchObject({ sizeBytes: 2 * c.sizeBytes });
      await c.harness.reboot();
      await c.openPort().ensure(spec, signal);
      expect(await check()).toBe(true);
    },
  );

  it.runIf(c.growsOnline)("grows the file system even by a small amount", async () => {
    const spec = c.newSpec();
    const { dataPath } = await c.port.ensure(spec, signal);
    const before = await statfs(dataPath);
    await c.port.ensure({ ...spec, sizeBytes: c.sizeBytes + 4 * MiB }, signal);
    const after = await statfs(dataPath);
    expect(after.blocks * after.bsize).toBeGreaterThan(before.blocks * before.bsize);
  });

  it("tags a volume with the highest generation of its set", async () => {
    const spec = c.newSpec();
    await c.port.ensure(spec, signal);
    await c.port.ensure({ ...spec, generation: 5 }, signal);
    await c.port.ensure({ ...spec, generation: 4 }, signal); // an older generation
    expect((await c.harness.openStore().list(signal)).volumes).toMatchObject([
      { tags: { generation: 5 } },
    ]);
  });

  it("mounts a volume with its data again after a reboot", async () => {
    const spec = c.newSpec();
    const check = await checked((await c.port.ensure(spec, signal)).dataPath, MiB);
    await c.harness.reboot();
    const next = c.openPort();
    expect(await c.only(next)).toMatchObject({ state: "live", usedBytes: undefined });
    await expect(writeFile(join(next.getDataPath(spec), "lost"), "")).rejects.toThrow();
    await next.ensure(spec, signal);
    expect(await check()).toBe(true);
  });

  it("trashes a volume only after the last process has closed it", async () => {
    const spec = c.newSpec();
    const { dataPath } = await c.port.ensure(spec, signal);
    const file = await open(join(dataPath, "open"), "w");
    await expect(c.port.trash(spec.setId, signal)).rejects.toMatchObject({
      code: "volume-busy",
      temporary: true,
    });
    expect(await c.only()).toMatchObject({ state: "live", usedBytes: expect.any(Number) });
    await file.close();
    await c.port.trash(spec.setId, signal);
    expect(await c.only()).toMatchObject({ state: "trashed" });
  });

  it("trashes a volume with an expiry, and restores it for a new set of the same service", async () => {
    const spec = c.newSpec();
    const { volumeId, dataPath } = await c.port.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    await c.trash(spec);
    expect(await c.only()).toMatchObject({
      volumeId,
      state: "trashed",
      usedBytes: undefined,
      trashedAtMs: c.nowMs,
      expiresAtMs: c.nowMs + retentionMs,
    });
    await expect(readFile(join(dataPath, "data"))).rejects.toMatchObject({ code: "ENOENT" });
    await c.port.trash(spec.setId, signal); // a repetition changes nothing, not even the expiry
    const other = c.newSpec({ restoreFrom: volumeId, service: "web" });
    await expect(c.port.ensure(other, signal)).rejects.toMatchObject({ code: "volume-refused" });
    const heir = c.newSpec({ restoreFrom: volumeId, generation: 7 });
    expect(await c.port.ensure(heir, signal)).toEqual({
      volumeId,
      dataPath: c.port.getDataPath(heir),
      sizeBytes: c.sizeBytes,
    });
    expect(await check()).toBe(true);
    expect(await c.only()).toMatchObject({ setId: heir.setId, state: "live" });
    expect(await c.port.ensure(heir, signal)).toMatchObject({ volumeId });
    const late = c.newSpec({ restoreFrom: volumeId });
    await expect(c.port.ensure(late, signal)).rejects.toMatchObject({ code: "volume-refused" });
  });

  it("I7: restores the volume of a set that returns to its host", async () => {
    const spec = c.newSpec();
    const { volumeId, dataPath } = await c.port.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    await c.port.trash(spec.setId, signal);
    const back = { ...spec, generation: 9 };
    expect(await c.port.ensure(back, signal)).toMatchObject({ volumeId, dataPath });
    expect(await check()).toBe(true);
    expect(await c.only()).toMatchObject({ state: "live", expiresAtMs: undefined });
  });
}

/** Grows the blocks of the only volume, as an agent that is killed before the file system. */
async function beginGrowth(c: VolumeContract, wantedBytes: number) {
  const store = c.harness.openStore();
  const [volume] = (await store.list(signal)).volumes;
  if (!volume) throw new Error("it is listed");
  await store.retag(volume, { ...volume.tags, growingFromBytes: volume.sizeBytes }, signal);
  await store.grow(volume.volumeId, wantedBytes, signal);
  return { store, tags: volume.tags, sizeBytes: wantedBytes };
}
