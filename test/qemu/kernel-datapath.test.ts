import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { tryOnHost } from "../support/modern-host/modern-host.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const deadlineMs = 1_500_000;

/**
 * Runs Open vSwitch and the tests of the machine in that host, whose kernel has openvswitch.ko and
 * connection tracking. /machine is read-only, so folders that programs change are in memory.
 */
const files = [
  "ovs-switch",
  "network-flows",
  "rules",
  "service-addresses",
  "published-ports",
  "outbound",
];
it.each(files)("the tests of %s pass in the kernel's datapath", async (file) => {
  const { output, exitCode } = await tryOnHost(
    `set -e
      modprobe -a openvswitch vport-vxlan veth
      export node="$(tr ' ' '\\n' </proc/cmdline | sed -n 's/^berth.node=//p')"
      export PATH="$(dirname "$node"):/usr/sbin:/usr/bin:/sbin:/bin"
      unshare --mount sh -ec '
        mount --bind /machine${root} /machine/mnt
        for folder in proc sys dev; do mount --rbind /$folder /machine/$folder; done
        for folder in run tmp; do mount -t tmpfs tmpfs /machine/$folder; done
        exec chroot /machine sh -c "cd /mnt && BERTH_TEST_DATAPATH=system exec \\
          $node node_modules/vitest/vitest.mjs run --project network --configLoader runner --no-cache \\
          test/network/${file}.test.ts"
      ' 2>&1`,
    { deadlineMs },
  );
  expect(exitCode, output).toBe(0);
  expect(output).toMatch(/Tests .*\d+ passed/);
});
