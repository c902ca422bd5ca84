import { afterAll, beforeAll, expect, it } from "vitest";
import {
  listRuns,
  readContainerLimits,
  readSliceLimits,
  removeService,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";

const MIB = 2 ** 20;
let set: BerthSet;

beforeAll(async () => {
  set = await startService("resize", { volume: { size: "64Mi", mountPath: "/data" } });
});

afterAll(() => removeService("resize"));

it.each([
  { cpu: 0.8, memory: "96Mi", quota: "80000 100000", memoryMib: 96 },
  { cpu: 0.2, memory: "48Mi", quota: "20000 100000", memoryMib: 48 },
])(
  "a resize to $cpu cores and $memory changes the kernel's limits and restarts nothing",
  async ({ cpu, memory, quota, memoryMib }) => {
    const before = await listRuns(set.id);
    await requestBerth("POST", "/v1/services/resize/resize", { cpu, memory });
    await waitReady("resize");
    const limits = { cpuMax: quota, memoryMax: String(memoryMib * MIB) };
    expect(await readSliceLimits(set.id)).toMatchObject({
      ...limits,
      memoryLow: String((memoryMib / 2) * MIB),
    });
    const app = { memoryMax: String((memoryMib * MIB) / 2) };
    expect(await readContainerLimits(set.id, "app")).toMatchObject(app);
    expect(await listRuns(set.id)).toEqual(before);
  },
);

it("a mounted volume grows on LVM with udev, and restarts nothing", async () => {
  const before = await listRuns(set.id);
  await runOnHost(`docker exec berth-${set.id}-app sh -c 'echo grows >/data/text'`);
  await requestBerth("POST", "/v1/services/resize/resize", { volume: "128Mi" });
  await waitReady("resize");
  const output = await runOnHost(
    `folder=$(docker inspect --format '{{range .Mounts}}{{.Source}}{{end}}' berth-${set.id}-app)
    blockdev --getsize64 "$(findmnt --noheadings --output SOURCE --target "$folder")"
    df --output=size --block-size=1 "$folder" | tail -n 1
    docker exec berth-${set.id}-app cat /data/text`,
  );
  const [volumeBytes, fileSystemBytes, text] = output.split("\n").map((line) => line.trim());
  expect(volumeBytes).toBe(String(128 * MIB));
  expect(Number(fileSystemBytes)).toBeGreaterThan(100 * MIB);
  expect(text).toBe("grows");
  expect(await listRuns(set.id)).toEqual(before);
});
