import { afterAll, beforeAll, expect, inject, it } from "vitest";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import {
  type KernelLimits,
  readContainerLimits,
  readSliceLimits,
  removeService,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { cutPower, runOnHost, shutDown, waitForBoot } from "../support/modern-host/modern-host.ts";

const deadlineMs = 120_000;
let set: BerthSet;
let slice: KernelLimits;
let app: KernelLimits;

beforeAll(async () => {
  set = await startService("host-restarts", { volume: { size: "64Mi", mountPath: "/data" } });
  slice = await readSliceLimits(set.id);
  app = await readContainerLimits(set.id, "app");
});

afterAll(() => removeService("host-restarts"));

it("after an orderly restart of the host the set serves its data, with its limits", async () => {
  await writeData("orderly");
  const bootId = await readBootId();
  await shutDown();
  await waitForBoot(inject("modernHost").folder, bootId);

  await expectServing("orderly");
  expect(await listReplayedJournals()).toBe("");
  // The previous boot has ended in order, so the API admits this one without a wait.
  const log = await runOnHost("journalctl --boot --unit berth-host-agent");
  expect(log).not.toContain("idle until");
});

it("after a power failure of the host the set serves its data, with its limits", async () => {
  await writeData("power");
  const bootId = await readBootId();
  await cutPower();
  await waitForBoot(inject("modernHost").folder, bootId);

  await expectServing("power");
  expect(await listReplayedJournals()).not.toBe("");
});

async function readBootId(): Promise<string> {
  return runOnHost("cat /proc/sys/kernel/random/boot_id");
}

/** A file system that was unmounted has no journal to replay. */
async function listReplayedJournals(): Promise<string> {
  return runOnHost("dmesg | grep 'EXT4-fs.*recovery complete' || true");
}

async function writeData(text: string): Promise<void> {
  await runOnHost(`docker exec berth-${set.id}-app sh -c 'echo ${text} >/data/text && sync'`);
}

async function expectServing(text: string): Promise<void> {
  const { id } = await waitReady("host-restarts");
  expect(id).toBe(set.id);
  await expect.poll(() => readSliceLimits(id), { timeout: deadlineMs }).toEqual(slice);
  await expect.poll(() => readContainerLimits(id, "app"), { timeout: deadlineMs }).toEqual(app);
  expect(await runOnHost(`docker exec berth-${id}-app cat /data/text`)).toBe(text);
}
