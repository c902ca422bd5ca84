import { describeVolumeKills } from "../contract/volume-kills.ts";
import { openLoopHarness } from "../support/volumes/loop-harness.ts";

describeVolumeKills("loop with xfs", () => openLoopHarness("xfs", 320 * 2 ** 20), {
  count: 16,
  apartMs: 29,
});
