import { describeVolumePort } from "../contract/volume-port.ts";
import { mayGrowExt4, openLoopHarness } from "../support/loop-harness.ts";

const MiB = 2 ** 20;

describeVolumePort("loop with ext4", { growsOnline: await mayGrowExt4() }, () =>
  openLoopHarness("ext4", 32 * MiB),
);
describeVolumePort("loop with xfs", { growsOnline: true }, () => openLoopHarness("xfs", 320 * MiB));
