import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { removeService, startService } from "../support/modern-host/host-service.ts";
import { requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";

const instances = "fs.inotify.max_user_instances";
const pids = "kernel.pid_max";
const reportDeadlineMs = 60_000;

beforeAll(() => startService("host-limits", { cpu: 0.2 }));

afterAll(async () => {
  await runOnHost(`sysctl -q -w ${instances}=8192 ${pids}=4194304`);
  await removeService("host-limits");
});

async function readReason(): Promise<unknown> {
  const { items } = await requestBerth<{ items: Host[] }>("GET", "/v1/hosts");
  return items[0]?.reported?.volumeReason ?? null;
}

async function listSets(): Promise<BerthSet[]> {
  const path = "/v1/sets?service=host-limits";
  return (await requestBerth<{ items: BerthSet[] }>("GET", path)).items;
}

async function readStates(): Promise<string[]> {
  return (await listSets()).map(({ state }) => state);
}

it("each container uses an inotify instance of root, outside of its cgroup", async () => {
  // A shim that starts or ends has none for a moment.
  const readCounts = () =>
    runOnHost(
      `for pid in $(pgrep -f '[/]containerd-shim'); do ls -l /proc/$pid/fd | grep -c inotify; done | sort -u`,
    );
  await expect.poll(readCounts).toBe("1");
});

it("a host shows the limit of its machine before containers fail to start", async () => {
  expect(await readReason()).toBeNull();
  await runOnHost(`sysctl -q -w ${instances}=43`);
  await expect.poll(readReason, { timeout: reportDeadlineMs }).toMatchObject({
    code: "sets-limited",
    text: expect.stringContaining(`${instances} (43) is enough for about 1`),
  });
  await runOnHost(`sysctl -q -w ${instances}=8192`);
  await expect.poll(readReason, { timeout: reportDeadlineMs }).toBeNull();
});

it("Berth places sets above a limit that only warns, and their containers run", async () => {
  // No process of root gets another instance.
  await runOnHost(`sysctl -q -w ${instances}=1`);
  await expect.poll(readReason, { timeout: reportDeadlineMs }).toMatchObject({
    text: expect.stringContaining(`${instances} (1) is enough for about 0`),
  });
  await requestBerth("POST", "/v1/services/host-limits/scale", { replicas: 2 });
  await expect.poll(readStates, { timeout: reportDeadlineMs }).toEqual(["running", "running"]);
  await requestBerth("POST", "/v1/services/host-limits/scale", { replicas: 1 });
  await runOnHost(`sysctl -q -w ${instances}=8192`);
  await expect.poll(readReason, { timeout: reportDeadlineMs }).toBeNull();
  await expect.poll(readStates, { timeout: reportDeadlineMs }).toEqual(["running"]);
});

it("Berth places no more sets on the host than its hard limits admit", async () => {
  const readSetsMax = async () => {
    const { items } = await requestBerth<{ items: Host[] }>("GET", "/v1/hosts");
    return items[0]?.capabilities?.setsMax;
  };
  await runOnHost(`sysctl -q -w ${pids}=1545`);
  await expect.poll(readSetsMax, { timeout: reportDeadlineMs }).toBe(1);
  await requestBerth("POST", "/v1/services/host-limits/scale", { replicas: 2 });
  const explain = async () =>
    (await listSets()).map(({ state, reason }) => `${state} ${reason?.text ?? ""}`).sort();
  await expect
    .poll(explain, { timeout: reportDeadlineMs })
    .toEqual([expect.stringMatching(/^pending .*\[too-many-sets\]/), "running "]);
  expect(await readReason()).toMatchObject({
    text: expect.stringContaining(`${pids} (1545) is enough for about 1, and Berth places no more`),
  });
  await requestBerth("POST", "/v1/services/host-limits/scale", { replicas: 1 });
  await runOnHost(`sysctl -q -w ${pids}=4194304`);
  await expect.poll(readSetsMax, { timeout: reportDeadlineMs }).toBeGreaterThan(500);
});

it("the shipped limits are enough for 500 sets", async () => {
  const log = await runOnHost("journalctl --output=cat --unit=berth-host-agent");
  expect(log).not.toContain("a limit of the machine admits few sets");
});
