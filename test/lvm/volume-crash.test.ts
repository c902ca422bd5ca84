import { beforeAll } from "vitest";
import { describeVolumeKills } from "../contract/volume-kills.ts";
import { openLvmHarness, volumeGroup } from "./lvm-harness.ts";
import { makeVolumeGroup } from "./volume-group.ts";

const sizeBytes = 32 * 2 ** 20;

beforeAll(() => makeVolumeGroup(volumeGroup, 6 * sizeBytes));
describeVolumeKills("LVM with ext4", () => openLvmHarness("ext4", sizeBytes), {
  count: 3,
  apartMs: 431,
});
