import { afterAll, expect, it } from "vitest";
import {
  getSet,
  removeService,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const daemonFile = "/etc/docker/daemon.json";

/**
 * Restarts Docker with another cgroup driver, while the agent runs. Docker's unit permits three
 * starts in a minute: `reset-failed` resets their count.
 */
async function changeDriver(driver: "cgroupfs" | "systemd"): Promise<void> {
  await runOnHost(`set -e
    cat >${daemonFile} <<'JSON'
{"iptables":false,"ip6tables":false,"exec-opts":["native.cgroupdriver=${driver}"]}
JSON
    systemctl reset-failed docker.service docker.socket
    systemctl restart docker`);
}

/** Waits until the set is ready with containers in a parent that contains `text`. */
async function waitForParent(name: string, text: string): Promise<void> {
  const set = await getSet(name);
  await waitUntil(
    `the containers of ${name} are in ${text}`,
    async () => {
      const parents = await runOnHost(
        `docker inspect -f '{{.HostConfig.CgroupParent}}' $(docker ps -q --filter label=berth.set=${set?.id})`,
      );
      return parents.split("\n").length === 2 && parents.split("\n").every((p) => p.includes(text));
    },
    { deadlineMs: 200_000, everyMs: 1_000 },
  );
  await waitReady(name);
}

afterAll(async () => {
  await changeDriver("systemd");
  if (await getSet("driver")) await removeService("driver");
});

it("sets move to the cgroups of another driver, and have their limits there", async () => {
  const set = await startService("driver", { cpu: 0.2 });
  await changeDriver("cgroupfs");
  await waitForParent("driver", `/berth/`);
  const limits = await runOnHost(
    `cd /sys/fs/cgroup/berth/host_*/${set.id} && cat cpu.max memory.max pids.max`,
  );
  expect(limits.split("\n")).toEqual(["20000 100000", String(64 * 2 ** 20), "8192"]);
  await changeDriver("systemd");
  await waitForParent("driver", `${set.id}.slice`);
  const scopes = await runOnHost(
    `find /sys/fs/cgroup/berth.slice -path '*${set.id}.slice/docker-*.scope' -type d`,
  );
  expect(scopes.split("\n")).toHaveLength(2);
});
