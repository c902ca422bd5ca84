import { open } from "node:fs/promises";
import { afterEach, expect, it } from "vitest";
import { holdMounts, type MountHolder } from "../support/volumes/mount-holder.ts";
import { checked } from "../support/volumes/volume-files.ts";
import { MiB, signal, type VolumeContract } from "./volume-contract.ts";

/** Bytes with which blkid takes a device for a member of a RAID: the start of its last sector. */
const raidSignature = Buffer.from([0x4a, 0x4d, 0, 0, 0xb6, 0xb2]);
const sectorBytes = 512;

/** The part of the contract about volumes that another process holds or whose blocks mislead. */
export function describeHolders(c: VolumeContract): void {
  let holder: MountHolder | undefined;
  afterEach(async () => {
    await holder?.end();
    holder = undefined;
  });

  it("trashes and restores a volume whose mount another namespace holds", async () => {
    const spec = c.newSpec();
    const { volumeId, dataPath } = await c.port.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    holder = await holdMounts();
    await c.port.trash(spec.setId, signal);
    expect(await c.only()).toMatchObject({ state: "trashed", usedBytes: undefined });
    await c.port.ensure(c.newSpec({ restoreFrom: volumeId }), signal);
    expect(await check()).toBe(true);
  });

  it("I7: a held volume stays in the trash until the holder ends, and the reason names the holder", async () => {
    const spec = c.newSpec();
    const { volumeId, dataPath } = await c.port.ensure(spec, signal);
    await checked(dataPath, MiB);
    holder = await holdMounts();
    await c.port.trash(spec.setId, signal);
    await c.port.expire(volumeId, signal);
    await expect(c.port.purge(volumeId, signal)).rejects.toMatchObject({
      code: "volume-busy",
      temporary: true,
      message: expect.stringContaining(`process ${holder.processId} (sleep)`),
    });
    expect(await c.only()).toMatchObject({ volumeId, state: "trashed" });
    expect(await c.harness.left()).toHaveLength(1);
    await holder.end();
    await c.port.purge(volumeId, signal);
    expect(await c.harness.left()).toEqual([]);
  });
}

/** A tenant may write any bytes. They must not change the type of its file system. */
export function describeSignatures(c: VolumeContract): void {
  it("mounts, restores and grows a volume with the signature of another format in its blocks", async () => {
    const spec = c.newSpec();
    const { volumeId, dataPath } = await c.port.ensure(spec, signal);
    const check = await checked(dataPath, MiB);
    const blocks = await open(c.harness.blocksOf(volumeId), "r+");
    await blocks.write(raidSignature, 0, raidSignature.length, c.sizeBytes - sectorBytes);
    await blocks.sync();
    await blocks.close();
    await c.harness.reboot();
    await c.openPort().ensure(spec, signal);
    expect(await check()).toBe(true);
    await c.port.trash(spec.setId, signal);
    const heir = c.newSpec({ restoreFrom: volumeId });
    await c.port.ensure(heir, signal);
    expect(await check()).toBe(true);
    if (!c.growsOnline) return;
    await c.port.ensure({ ...heir, sizeBytes: 1.5 * c.sizeBytes }, signal);
    expect(await check()).toBe(true);
  });
}
