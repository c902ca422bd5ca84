import { afterAll, beforeAll, expect, it } from "vitest";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import {
  type KernelLimits,
  listRuns,
  readContainerLimits,
  readSliceLimits,
  removeService,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { replaceAgent, runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const deadlineMs = 120_000;
let set: BerthSet;
let slice: KernelLimits;
let app: KernelLimits;

beforeAll(async () => {
  set = await startService("restarts", {
    io: { writeBytesPerSecond: "5Mi", readOpsPerSecond: 500 },
  });
  slice = await readSliceLimits(set.id);
  app = await readContainerLimits(set.id, "app");
  expect(slice.ioMax).toMatch(/^\d+:\d+ rbps=max wbps=5242880 riops=500 wiops=max$/);
});

afterAll(() => removeService("restarts"));

it.each([
  { what: "a container", script: () => `docker kill berth-${set.id}-app` },
  { what: "the infra container", script: () => `docker kill berth-${set.id}-infra` },
  { what: "all containers", script: () => `docker kill berth-${set.id}-app berth-${set.id}-infra` },
  {
    what: "Docker",
    script: () => "systemctl reset-failed docker.service && systemctl restart docker",
  },
  { what: "Docker, killed", script: () => "systemctl kill --signal=KILL docker" },
])(
  "after the end of $what the set serves again, with its limits in the kernel",
  async ({ script }) => {
    const before = await listRuns(set.id);
    await runOnHost(script());
    await waitUntil(
      "another run has started",
      async () => {
        const after = await listRuns(set.id);
        return after.length === before.length && after.join() !== before.join();
      },
      { deadlineMs },
    );
    await expectServing();
  },
);

it("a restart of the agent restarts no container and changes no limit", async () => {
  const before = await listRuns(set.id);
  await replaceAgent("systemctl restart berth-host-agent");
  await expectServing();
  expect(await listRuns(set.id)).toEqual(before);
});

it("systemd starts a killed agent again, which restarts no container", async () => {
  const before = await listRuns(set.id);
  await replaceAgent("systemctl kill --signal=KILL berth-host-agent");
  await expectServing();
  expect(await listRuns(set.id)).toEqual(before);
});

it("systemctl daemon-reload and daemon-reexec change no limit", async () => {
  await runOnHost("systemctl daemon-reload && systemctl daemon-reexec");
  expect(await readSliceLimits(set.id)).toEqual(slice);
  expect(await readContainerLimits(set.id, "app")).toEqual(app);
});

it("the agent corrects limits that others changed", async () => {
  await runOnHost(`
    slice=$(basename "$(find /sys/fs/cgroup/berth.slice -name '*${set.id}.slice')")
    systemctl set-property --runtime "$slice" MemoryMax=48M CPUQuota=10%
    docker update --memory 20M --memory-swap 20M berth-${set.id}-app`);
  expect(await readSliceLimits(set.id)).not.toEqual(slice);
  await expectServing();
});

async function expectServing(): Promise<void> {
  await expect.poll(() => readSliceLimits(set.id), { timeout: deadlineMs }).toEqual(slice);
  await expect.poll(() => readContainerLimits(set.id, "app"), { timeout: deadlineMs }).toEqual(app);
  const { address } = await waitReady("restarts");
  await runOnHost(
    `curl --silent --fail --max-time 20 --output /dev/null http://${address}:8080/sh`,
  );
}
