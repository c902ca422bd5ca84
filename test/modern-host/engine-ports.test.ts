import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { tryOnHost } from "../support/modern-host/modern-host.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

it.each(["CgroupPort", "ContainerPort"])(
  "%s passes its contract suite with systemd, cgroup v2 and Docker 28",
  async (port) => {
    const { output, exitCode } = await tryOnHost(
      `cd /machine${root}
      BERTH_UML=1 node node_modules/vitest/vitest.mjs run --project on-modern-host \\
        --configLoader runner --testNamePattern ${port}`,
    );
    expect(exitCode, output).toBe(0);
    expect(output).toMatch(/Tests .*\d+ passed/);
  },
);
