import { readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { FileSystemType } from "../../src/host-adapters/volumes/file-systems.ts";
import { mountDevice, unmount } from "../../src/host-adapters/volumes/mounts.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { describeVolumePort } from "../contract/volume-port.ts";
import { type LoopHarness, mayGrowExt4, openLoopHarness } from "../support/volumes/loop-harness.ts";

const MiB = 2 ** 20;
const { signal } = new AbortController();

describe("loop volumes on a shared disk", () => {
  let harness: LoopHarness;
  let volumes: VolumePort;
  const open = async (fileSystem: FileSystemType, sizeBytes: number) => {
    harness = await openLoopHarness(fileSystem, sizeBytes);
    const { root } = harness;
    const options = { root, fileSystem, retentionMs: 60_000, purgesEarly: false, log: silentLog };
    volumes = createVolumes({ ...options, store: harness.openStore() });
  };
  afterEach(() => harness.close());

  const newSpec = (): VolumeSpec => ({
    setId: newId("set"),
    tenant: "default",
    service: "db",
    generation: 1,
    sizeBytes: harness.sizeBytes,
  });
  const pathOf = (volumeId: string, suffix: string) =>
    join(harness.storeOptions.folder, `${volumeId}.${suffix}`);

  it.each(["ext4", "xfs"] as const)(
    "are allocated to the last block with %s, so that no other program can use the blocks",
    async (fileSystem) => {
      await open(fileSystem, 320 * MiB);
      const { volumeId } = await volumes.ensure(newSpec(), signal);
      const { blocks, size } = await stat(pathOf(volumeId, "img"));
      expect(size).toBe(320 * MiB);
      expect(blocks * 512).toBeGreaterThanOrEqual(size);
    },
  );

  it("are mounted and unmounted although a program of a killed agent has just done so", async () => {
    await open("ext4", 32 * MiB);
    const { dataPath } = await volumes.ensure(newSpec(), signal);
    const mountPoint = dirname(dataPath);
    const mounts = await readFile("/proc/mounts", "utf8");
    const device = mounts
      .split("\n")
      .find((line) => line.includes(mountPoint))
      ?.split(" ")[0];
    if (device === undefined) throw new Error("the volume is mounted");
    await mountDevice({ device, type: "ext4", mountPoint }, signal);
    await writeFile(join(mountPoint, "file"), "written"); // it is not immutable
    await unmount(mountPoint, signal);
    await unmount(mountPoint, signal);
    expect(await readFile("/proc/mounts", "utf8")).not.toContain(mountPoint);
  });

  it("report and never change a volume with unreadable tags, and serve the others", async () => {
    await open("ext4", 32 * MiB);
    const [broken, fine] = [newSpec(), newSpec()];
    const { volumeId } = await volumes.ensure(broken, signal);
    await volumes.ensure(fine, signal);
    await writeFile(pathOf(volumeId, "json"), "{");
    expect((await volumes.list(signal)).map(({ setId }) => setId)).toEqual([fine.setId]);
    expect((await volumes.listAll(signal)).unreadable).toEqual([volumeId]);
    expect(await volumes.capacity(signal)).toMatchObject({
      unreadable: [volumeId],
      usedBytes: 64 * MiB,
    });
    const unreadable = { code: "volume-unreadable", temporary: true };
    await expect(volumes.ensure(broken, signal)).rejects.toMatchObject(unreadable);
    await expect(volumes.trash(broken.setId, signal)).rejects.toMatchObject(unreadable);
    await volumes.trash(fine.setId, signal);
    await volumes.trash(newSpec().setId, signal); // a set without a volume
    expect((await stat(pathOf(volumeId, "img"))).size).toBe(32 * MiB);
  });
});

describeVolumePort("loop with ext4", { growsOnline: await mayGrowExt4() }, () =>
  openLoopHarness("ext4", 32 * MiB),
);
describeVolumePort("loop with xfs", { growsOnline: true }, () => openLoopHarness("xfs", 320 * MiB));
