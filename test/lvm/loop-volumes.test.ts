import { describeVolumePort } from "../contract/volume-port.ts";
import { openLoopHarness } from "../support/volumes/loop-harness.ts";

// The agent project tests the rest of the contract. The test machine's kernel may not grow a
// mounted ext4.
describeVolumePort("loop with ext4", { growsOnline: true, isLifecycleOnly: true }, () =>
  openLoopHarness("ext4", 32 * 2 ** 20),
);
