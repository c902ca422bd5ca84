import { mkdir, mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { findBlockDevice, deviceNumbers } from "./block-device.ts";

let sysfs: string;
let links: string;
let device: string;

/** A folder replaces sysfs and describes the device that the folder is on. */
beforeEach(async () => {
  sysfs = await mkdtemp(join(tmpdir(), "berth-sysfs-"));
  links = join(sysfs, "dev/block");
  device = deviceNumbers((await stat(sysfs)).dev);
  await mkdir(join(sysfs, "devices/sda/sda1"), { recursive: true });
  await mkdir(links, { recursive: true });
});
afterEach(() => rm(sysfs, { recursive: true, force: true }));

it("formats device numbers like the kernel, including large ones", () => {
  expect([0xfe00, 0x0801, 0x0700, 0x100_0301].map(deviceNumbers)).toEqual([
    "254:0",
    "8:1",
    "7:0",
    "3:4097",
  ]);
});

it("finds the disk of a folder", async () => {
  await writeFile(join(sysfs, "devices/sda/dev"), `${device}\n`);
  await symlink("../../devices/sda", join(links, device));
  expect(await findBlockDevice(sysfs, links)).toBe(device);
});

it("finds the whole disk of a partition", async () => {
  await writeFile(join(sysfs, "devices/sda/dev"), "8:0\n");
  await writeFile(join(sysfs, "devices/sda/sda1/dev"), `${device}\n`);
  await writeFile(join(sysfs, "devices/sda/sda1/partition"), "1\n");
  await symlink("../../devices/sda/sda1", join(links, device));
  expect(await findBlockDevice(sysfs, links)).toBe("8:0");
});

it("finds no disk for a folder without a device, and for a missing folder", async () => {
  expect(await findBlockDevice(sysfs, links)).toBeUndefined();
  expect(await findBlockDevice(join(sysfs, "missing"))).toBeUndefined();
});
