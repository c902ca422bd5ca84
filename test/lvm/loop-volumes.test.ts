import { describeVolumePort } from "../contract/volume-port.ts";
import { openLoopHarness } from "../support/volumes/loop-harness.ts";

// The rest of the contract is kept on the machine itself, whose kernel may not let a mounted ext4 grow.
describeVolumePort("loop with ext4", { growsOnline: true, lifeOnly: true }, () =>
  openLoopHarness("ext4", 32 * 2 ** 20),
);
