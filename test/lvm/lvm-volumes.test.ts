import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { FileSystemType } from "../../src/host-adapters/volumes/file-systems.ts";
import { createLvmStore } from "../../src/host-adapters/volumes/lvm-store.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { nothingWanted, type VolumeHarness } from "../contract/volume-contract.ts";
import { describeVolumePort } from "../contract/volume-port.ts";
import { checked } from "../support/volumes/volume-files.ts";
import { openLvmHarness, volumeGroup } from "./lvm-harness.ts";
import { disk, makeVolumeGroup } from "./volume-group.ts";

const run = promisify(execFile);
const MiB = 2 ** 20;
const { signal } = new AbortController();

describeOn("ext4", 32 * MiB, { isLifecycleOnly: false });
describeOn("xfs", 320 * MiB, { isLifecycleOnly: true });

function describeOn(
  fileSystem: FileSystemType,
  sizeBytes: number,
  { isLifecycleOnly }: { isLifecycleOnly: boolean },
): void {
  describe(`a volume group with ${fileSystem}`, () => {
    beforeAll(() => makeVolumeGroup(volumeGroup, 6 * sizeBytes));
    describeVolumePort(`LVM with ${fileSystem}`, { growsOnline: true, isLifecycleOnly }, () =>
      openLvmHarness(fileSystem, sizeBytes),
    );
  });
}

test("a missing volume group is a temporary error", async () => {
  const store = createLvmStore({ hostId: newId("host"), volumeGroup: "nowhere" });
  const missing = { code: "volume-missing", temporary: true };
  await expect(store.list(signal)).rejects.toMatchObject(missing);
  await expect(store.capacity(signal)).rejects.toMatchObject(missing);
});

describe("a volume group", () => {
  let harness: VolumeHarness;
  let volumes: VolumePort;
  beforeAll(() => makeVolumeGroup(volumeGroup, 6 * 32 * MiB));
  beforeEach(async () => {
    harness = await openLvmHarness("ext4", 32 * MiB);
    const { root, fileSystem } = harness;
    const options = { root, fileSystem, retentionMs: 60_000, purgesEarly: false, log: silentLog };
    volumes = createVolumes({ ...options, store: harness.openStore() });
    volumes.updateRetention(nothingWanted);
  });
  afterEach(() => harness.close());

  const newSpec = (changes: Partial<VolumeSpec> = {}): VolumeSpec => ({
    setId: newId("set"),
    tenant: "default",
    service: "db",
    generation: 1,
    sizeBytes: harness.sizeBytes,
    ...changes,
  });

  test("refuses volumes while it is full, destroys nothing, and accepts them later", async () => {
    const [large, next] = [newSpec({ sizeBytes: 5.5 * harness.sizeBytes }), newSpec()];
    const check = await checked((await volumes.ensure(large, signal)).dataPath, MiB);
    const full = { code: "volume-no-room", temporary: true };
    await expect(volumes.ensure(next, signal)).rejects.toMatchObject(full);
    const larger = { ...large, sizeBytes: 7 * harness.sizeBytes };
    await expect(volumes.ensure(larger, signal)).rejects.toMatchObject(full);
    expect(await check()).toBe(true);
    expect(await volumes.list(signal)).toMatchObject([{ sizeBytes: large.sizeBytes }]);
    await volumes.trash(large.setId, signal);
    await run("lvremove", ["-y", `${volumeGroup}/${large.setId.replace("set_", "vol_")}`]);
    await volumes.ensure(next, signal);
  });

  test("a full volume group refuses new volumes, and serves existing ones until their purge", async () => {
    const [spec, next] = [newSpec(), newSpec()];
    const { volumeId, dataPath } = await volumes.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    await run("lvcreate", ["-y", "-n", "theirs", "-l", "100%FREE", volumeGroup]);
    expect(await volumes.capacity(signal)).toMatchObject({ freeBytes: 0 });
    const full = { code: "volume-no-room", temporary: true };
    await expect(volumes.ensure(next, signal)).rejects.toMatchObject(full);
    const larger = { ...spec, sizeBytes: 2 * spec.sizeBytes };
    await expect(volumes.ensure(larger, signal)).rejects.toMatchObject(full);
    const growing = { state: "live", sizeBytes: spec.sizeBytes };
    expect(await volumes.list(signal)).toMatchObject([growing]);
    await volumes.trash(spec.setId, signal);
    await volumes.ensure({ ...next, restoreFrom: volumeId }, signal);
    expect(await check()).toBe(true);
    await volumes.trash(next.setId, signal);
    await volumes.expire(volumeId, signal);
    await volumes.purge(volumeId, signal);
    await volumes.ensure(newSpec(), signal);
    expect(await harness.left()).toHaveLength(2);
  });

  test("a volume group on a read-only disk rejects changes until the disk is writable", async () => {
    const [spec, next] = [newSpec(), newSpec()];
    const { dataPath } = await volumes.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    const failed = { code: "volume-failed", temporary: true };
    await run("blockdev", ["--setro", disk]);
    try {
      await expect(volumes.ensure(next, signal)).rejects.toMatchObject(failed);
      const larger = { ...spec, sizeBytes: 2 * spec.sizeBytes };
      await expect(volumes.ensure(larger, signal)).rejects.toMatchObject(failed);
      await expect(volumes.trash(spec.setId, signal)).rejects.toMatchObject(failed);
      expect(await volumes.list(signal)).toMatchObject([{ setId: spec.setId, state: "live" }]);
    } finally {
      await run("blockdev", ["--setrw", disk]);
    }
    await volumes.ensure({ ...spec, sizeBytes: 2 * spec.sizeBytes }, signal);
    expect(await check()).toBe(true);
    await volumes.ensure(next, signal);
  });

  test("creates a file system without a discard, and never replays an earlier journal", async () => {
    const former = newSpec();
    const { volumeId, dataPath } = await volumes.ensure(former, signal);
    await writeFile(join(dataPath, "file"), Buffer.alloc(16 * MiB, "former"), { flush: true });
    await volumes.trash(former.setId, signal);
    await volumes.expire(volumeId, signal);
    await volumes.purge(volumeId, signal);
    const made = await volumes.ensure(newSpec(), signal);
    const device = `/dev/mapper/${volumeGroup}-${made.volumeId}`;
    expect((await readFile(device)).includes("formerformer")).toBe(true);
    const { stdout } = await run("dumpe2fs", ["-h", device]);
    expect(stdout).toMatch(/^Filesystem features:.* metadata_csum/m);
    expect(stdout).toMatch(/^Journal features:.* journal_checksum_v3/m);
  });

  test("rounds sizes with a part of a sector up to extents", async () => {
    const spec = newSpec({ sizeBytes: 50_000_001 });
    const { dataPath } = await volumes.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    expect(await volumes.list(signal)).toMatchObject([{ sizeBytes: 48 * MiB }]);
    await volumes.ensure({ ...spec, sizeBytes: 70_500_001 }, signal);
    expect(await volumes.list(signal)).toMatchObject([{ sizeBytes: 68 * MiB }]);
    expect(await check()).toBe(true);
    await volumes.ensure({ ...spec, sizeBytes: 71_000_003 }, signal);
    expect(await volumes.list(signal)).toMatchObject([{ sizeBytes: 68 * MiB }]);
  });

  test("refuses new volumes while the metadata area is nearly full, and still trashes and purges others", async () => {
    const [spec, next] = [newSpec(), newSpec()];
    const { volumeId } = await volumes.ensure(spec, signal);
    await run("lvcreate", ["-y", "-n", "theirs", "-l", "1", volumeGroup]);
    // The area holds about 520,000 bytes of tags.
    const tags = Array.from({ length: 485 }, (_, number) => `t${number}_`.padEnd(1_000, "x"));
    const change = (option: string) =>
      run("lvchange", [...tags.flatMap((tag) => [option, tag]), `${volumeGroup}/theirs`]);
    await change("--addtag");
    expect(await volumes.capacity(signal)).toMatchObject({ freeBytes: 0, isMetadataFull: true });
    const full = { code: "volume-no-room", message: expect.stringContaining("--metadatasize") };
    await expect(volumes.ensure(next, signal)).rejects.toMatchObject(full);
    await volumes.trash(spec.setId, signal);
    await volumes.expire(volumeId, signal);
    // The trash has one record, and the area lacks more than thirty.
    await expect(volumes.ensure(next, signal)).rejects.toMatchObject(full);
    expect(await volumes.list(signal)).toMatchObject([{ state: "trashed" }]);
    await volumes.purge(volumeId, signal);
    await change("--deltag");
    await volumes.ensure(next, signal);
    expect(await volumes.capacity(signal)).toMatchObject({ isMetadataFull: false });
  });

  test("refuses a set with two volumes", async () => {
    const spec = newSpec();
    const other = newSpec();
    await volumes.ensure(spec, signal);
    const { volumeId } = await volumes.ensure(other, signal);
    const tags = ["--deltag", `berth.set=${other.setId}`, "--addtag", `berth.set=${spec.setId}`];
    await run("lvchange", [...tags, `${volumeGroup}/${volumeId}`]);
    await expect(volumes.ensure(spec, signal)).rejects.toThrow(`but has ${volumeId}`);
    expect(await volumes.list(signal)).toHaveLength(2);
  });

  test("reports and never changes a volume with damaged tags, and serves the others", async () => {
    const [broken, fine] = [newSpec(), newSpec()];
    const { volumeId } = await volumes.ensure(broken, signal);
    await run("lvchange", ["--deltag", "berth.state=live", `${volumeGroup}/${volumeId}`]);
    await volumes.ensure(fine, signal);
    expect(await volumes.capacity(signal)).toMatchObject({ unreadable: [volumeId] });
    expect(await volumes.listAll(signal)).toMatchObject({
      volumes: [{ setId: fine.setId }],
      unreadable: [volumeId],
    });
    const unreadable = { code: "volume-unreadable" };
    await expect(volumes.ensure(broken, signal)).rejects.toMatchObject(unreadable);
    await expect(volumes.trash(broken.setId, signal)).rejects.toMatchObject(unreadable);
    await volumes.trash(fine.setId, signal);
  });

  test("resumes a suspended device", async () => {
    const spec = newSpec();
    const { volumeId, dataPath } = await volumes.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    await run("dmsetup", ["suspend", "--noflush", `${volumeGroup}-${volumeId}`]);
    await volumes.ensure({ ...spec, sizeBytes: 64 * MiB }, signal);
    const device = `${volumeGroup}-${volumeId}`;
    const columns = ["--noheadings", "-o", "suspended"];
    const { stdout } = await run("dmsetup", ["info", "-c", ...columns, device]);
    expect(stdout.trim()).toBe("Active");
    expect(await check()).toBe(true);
  });
});
