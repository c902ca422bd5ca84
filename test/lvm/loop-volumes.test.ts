import { describeVolumePort } from "../contract/volume-port.ts";
import { openLoopHarness } from "../support/loop-harness.ts";

describeVolumePort("loop with ext4", { growsOnline: true }, () =>
  openLoopHarness("ext4", 32 * 2 ** 20),
);
