import { afterEach, expect, it } from "vitest";
import {
  getSet,
  listRuns,
  readSliceLimits,
  removeService,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { replaceAgent, requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";

/** The name of the test's service. A deleted service still uses its name for a while. */
let service: string;

afterEach(async () => {
  if (await getSet(service)) await removeService(service);
});

it("a set uses more than one CPU, and only those that its host's administrator gives to Berth", async () => {
  service = "cpus";
  const set = await startService(service, { cpu: 1.2 });
  expect((await readSliceLimits(set.id)).cpuMax).toBe("120000 100000");
  const readCpus = () =>
    runOnHost(
      `cat "$(find /sys/fs/cgroup/berth.slice -path '*${set.id}.slice/*' -name 'docker-*.scope' | head -n 1)/cpuset.cpus.effective"`,
    );
  expect(await readCpus()).toBe("0-1");
  await runOnHost("systemctl set-property --runtime berth.slice AllowedCPUs=1");
  try {
    expect(await readCpus()).toBe("1");
    const runs = await listRuns(set.id);
    await requestBerth("POST", `/v1/services/${service}/resize`, { cpu: 0.8, memory: "96Mi" });
    await waitReady(service);
    await replaceAgent("systemctl restart berth-host-agent");
    await runOnHost("systemctl daemon-reload");
    expect((await readSliceLimits(set.id)).cpuMax).toBe("80000 100000");
    expect(await readCpus()).toBe("1");
    expect(await listRuns(set.id)).toEqual(runs);
  } finally {
    await runOnHost("systemctl set-property --runtime berth.slice AllowedCPUs=0-1");
  }
});

it("a set reaches the network through Docker's own rules, and the kernel tracks its connections", async () => {
  service = "tracked";
  await runOnHost(`set -e
    echo '{}' >/etc/docker/daemon.json
    systemctl reset-failed docker.service docker.socket
    systemctl restart docker`);
  const set = await startService(service, { cpu: 0.4 });
  const answer = await runOnHost(`set -e
    api=$(sed -n 's/^BERTH_API_URL=//p' /etc/berth/host-agent.env)
    docker exec berth-${set.id}-app /bin/busybox wget -q -O - "$api/healthz"`);
  expect(JSON.parse(answer)).toEqual({ ok: true });
  const tracked = await runOnHost("cat /proc/sys/net/netfilter/nf_conntrack_count");
  expect(Number(tracked)).toBeGreaterThan(0);
});
