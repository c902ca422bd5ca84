import { afterAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import {
  getSet,
  removeService,
  serviceBody,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const daemonFile = "/etc/docker/daemon.json";
const deadlines = { deadlineMs: 200_000, everyMs: 1_000 };

/** Docker's unit permits three starts in a minute: `reset-failed` resets their count. */
async function restartDocker(options: object): Promise<void> {
  const config = JSON.stringify({ iptables: false, ip6tables: false, ...options });
  await runOnHost(`set -e
    cat >${daemonFile} <<'JSON'
${config}
JSON
    systemctl reset-failed docker.service docker.socket
    systemctl restart docker`);
}

async function getHost(): Promise<Host | undefined> {
  const { items } = await requestBerth<{ items: Host[] }>("GET", "/v1/hosts");
  return items[0];
}

afterAll(async () => {
  await restartDocker({ "exec-opts": ["native.cgroupdriver=systemd"] });
  if (await getSet("tested")) await removeService("tested");
});

it("a host gets no new sets while its self test fails, and gets them when it passes again", async () => {
  const before = await waitUntil(
    "the self test has passed",
    async () => {
      const host = await getHost();
      return host?.capabilities?.selfTest?.state === "passed" && host;
    },
    deadlines,
  );
  expect(before.capabilities?.docker).toMatchObject({ cgroupDriver: "systemd", cgroupVersion: 2 });
  // The result may be that of an earlier process, and the test of the present one may be running.
  const findLeftovers = () =>
    runOnHost(
      `docker ps -aq --filter label=berth.self-test; find /sys/fs/cgroup -name '*self_test*'`,
    );
  await expect.poll(findLeftovers, { timeout: deadlines.deadlineMs }).toBe("");

  await restartDocker({ bridge: "none", "exec-opts": ["native.cgroupdriver=systemd"] });
  await waitUntil(
    "the self test has failed",
    async () => (await getHost())?.reason?.code === "self-test-failed",
    deadlines,
  );
  expect((await getHost())?.reason?.text).toContain('"bridge": "none"');
  await requestBerth("POST", "/v1/services", serviceBody("tested", { cpu: 0.2 }));
  await waitUntil(
    "no host takes the set",
    async () => (await getSet("tested"))?.reason?.text.includes("[host-self-test-failed]") === true,
    deadlines,
  );

  await restartDocker({ "exec-opts": ["native.cgroupdriver=systemd"] });
  await waitReady("tested");
  expect((await getHost())?.reason).toBeNull();
});
