import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import { listRuns, removeService, startService } from "../support/modern-host/host-service.ts";
import { replaceAgent, requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const unit = "berth-host-agent";
const dropIn = `/run/systemd/system/${unit}.service.d/test.conf`;
const deadlineMs = 120_000;

beforeAll(() => startService("agent-unit", { cpu: 0.2 }));

afterAll(async () => {
  await replaceAgent(`rm -f ${dropIn} && systemctl daemon-reload && systemctl restart ${unit}`);
  await removeService("agent-unit");
});

async function show(property: string): Promise<string> {
  return runOnHost(`systemctl show --property=${property} --value ${unit}`);
}

it("systemd runs the agent with a watchdog of five minutes", async () => {
  expect(await show("WatchdogUSec")).toBe("5min");
  expect(Number(await show("WatchdogTimestampMonotonic"))).toBeGreaterThan(0);
});

it("the kernel kills the agent last, bounds its memory, and writes no core", async () => {
  const [oom, core, max] = (
    await runOnHost(
      `pid=$(systemctl show --property=MainPID --value ${unit})
      cat /proc/$pid/oom_score_adj
      grep 'Max core' /proc/$pid/limits | tr -s ' ' | cut -d' ' -f5
      cat /sys/fs/cgroup/system.slice/${unit}.service/memory.max`,
    )
  ).split("\n");
  expect([oom, core, max]).toEqual(["-900", "0", String(2 ** 30)]);
});

it("the kernel protects the memory of the system as that of the sets", async () => {
  const read = (file: string) => runOnHost(`cat /sys/fs/cgroup/${file}`);
  const total = Number(await runOnHost("awk '/MemTotal/ {print $2 * 1024}' /proc/meminfo"));
  expect(await read("system.slice/memory.min")).toBe(String(256 * 2 ** 20));
  expect(await read("system.slice/memory.low")).toBe(String(2 * 2 ** 30));
  expect(await read(`system.slice/${unit}.service/memory.min`)).toBe(String(128 * 2 ** 20));
  // The kernel would divide a larger reservation among the sets.
  await expect.poll(async () => Number(await read("berth.slice/memory.low"))).toBeLessThan(total);
});

it("systemd restarts an agent whose event loop is blocked, and no container", async () => {
  await replaceAgent(
    `mkdir -p $(dirname ${dropIn})
    printf '[Service]\\nWatchdogSec=15\\n' >${dropIn}
    systemctl daemon-reload && systemctl restart ${unit}`,
  );
  const pid = await show("MainPID");
  const containers = await listRuns();
  expect(containers).toHaveLength(2);
  // Longer than the timeout: the agent resets its watchdog.
  await runOnHost("sleep 25");
  expect(await show("MainPID")).toBe(pid);

  await replaceAgent(`kill -STOP ${pid}`);
  expect(await runOnHost(`journalctl --unit ${unit} --output=cat -n 200`)).toContain(
    "Watchdog timeout (limit 15s)",
  );
  expect(await listRuns()).toEqual(containers);
});

it("an agent with private mounts offers no volumes, because Docker would not see them", async () => {
  const readReason = async () => {
    const { items } = await requestBerth<{ items: Host[] }>("GET", "/v1/hosts");
    return items[0]?.reported?.volumeReason?.code;
  };
  expect(await readReason()).toBeUndefined();
  await replaceAgent(
    `mkdir -p $(dirname ${dropIn})
    printf '[Service]\\nPrivateTmp=yes\\n' >${dropIn}
    systemctl daemon-reload && systemctl restart ${unit}`,
  );
  await expect.poll(readReason, { timeout: deadlineMs }).toBe("volume-not-visible");
  await replaceAgent(`rm ${dropIn} && systemctl daemon-reload && systemctl restart ${unit}`);
  await expect.poll(readReason, { timeout: deadlineMs }).toBeUndefined();
});

it("systemd starts the agent again until the file of a setting exists", async () => {
  const settings = "/etc/berth/host-agent.env";
  const file = "/run/berth-docker-socket";
  await runOnHost(`echo BERTH_DOCKER_SOCKET_FILE=${file} >>${settings}; systemctl restart ${unit}`);
  await waitUntil("the agent has ended twice", async () => Number(await show("NRestarts")) >= 2, {
    deadlineMs,
  });
  await runOnHost(`echo /var/run/docker.sock >${file}`);
  // The process that is just starting may be the one that reads the file.
  const readLog = async () => {
    const invocation = await show("InvocationID");
    return runOnHost(`journalctl --output=cat _SYSTEMD_INVOCATION_ID=${invocation}`);
  };
  await expect.poll(readLog, { timeout: deadlineMs }).toContain('"msg":"ready"');
  await replaceAgent(
    `sed -i /BERTH_DOCKER_SOCKET_FILE/d ${settings}; rm ${file}; systemctl restart ${unit}`,
  );
});

it("invalid settings stop the restarts, until an operator corrects them", async () => {
  const settings = "/etc/berth/host-agent.env";
  await runOnHost(`echo BERTH_TYPO=1 >>${settings}; systemctl restart ${unit}`);
  await waitUntil("the unit has failed", async () => (await show("ActiveState")) === "failed", {
    deadlineMs,
  });
  expect(await show("ExecMainStatus")).toBe("78");
  await runOnHost("sleep 5");
  expect(await show("ActiveState")).toBe("failed");
  await replaceAgent(`sed -i /BERTH_TYPO/d ${settings}; systemctl start ${unit}`);
});
