import { execFile } from "node:child_process";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import { systemClock } from "../../src/agent/clock.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { VolumeKeeper } from "../../src/agent/volume-keeper.ts";
import type { DesiredSet } from "../../src/contracts/agent-protocol/protocol.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeHarness } from "../contract/volume-contract.ts";
import { openLoopHarness } from "../support/volumes/loop-harness.ts";
import { localSet } from "../support/agent/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
const sizeBytes = 32 * 2 ** 20;
const { signal } = new AbortController();
let harness: VolumeHarness;
let volumes: VolumePort;
let keeper: VolumeKeeper;
let ran: Promise<void>;
let stopping: AbortController;
let nowMs = Date.now();

beforeEach(async () => {
  harness = await openLoopHarness("ext4", sizeBytes);
  const { root, fileSystem } = harness;
  const options = { root, fileSystem, retentionMs: 60_000, purgesEarly: false, log: silentLog };
  volumes = createVolumes({ ...options, store: harness.openStore(), nowMs: () => nowMs });
  const clock = { ...systemClock, nowMs: () => nowMs };
  keeper = new VolumeKeeper({
    port: volumes,
    clock,
    log: silentLog,
    intervalMs: 50,
    onNews: () => undefined,
  });
  stopping = new AbortController();
  ran = keeper.run(stopping.signal);
});
afterEach(async () => {
  stopping.abort();
  await ran;
  await harness.close();
});

function newSpec(): VolumeSpec {
  return { setId: newId("set"), tenant: "default", service: "db", generation: 1, sizeBytes };
}

/** The control plane was heard: its clock is the host's, some seconds behind, and it wants these sets. */
const hear = (purgeVolumes: string[] = [], desired: DesiredSet[] = []) =>
  keeper.heed(
    {
      hostGeneration: 1,
      full: false,
      sets: [],
      streams: [],
      reportAgain: [],
      purgeVolumes,
      leaseSeconds: 45,
      serverTime: new Date(nowMs + 1_000).toISOString(),
    },
    desired,
  );

const reported = () => keeper.takeNews().volumes?.map(({ state }) => state);

it("reports what there is, purges what is expired or asked for, and forgets an order for what is used again", async () => {
  const [old, asked, back] = [newSpec(), newSpec(), newSpec()];
  for (const spec of [old, asked, back]) await volumes.ensure(spec, signal);
  await waitUntil("three are reported", () => reported()?.length === 3);
  hear();
  await volumes.trash(old.setId, signal);
  nowMs += 60_000;
  await delay(200);
  expect(await volumes.list(signal)).toHaveLength(3); // expired, but nobody was heard since
  nowMs += 60_000;
  hear();
  await waitUntil("the expired one is purged", () => reported()?.length === 2);

  const { volumeId } = await volumes.ensure(back, signal);
  hear([volumeId]);
  await waitUntil("the order was looked at", async () => {
    await volumes.trash(asked.setId, signal);
    return reported()?.includes("trashed") === true;
  });
  await volumes.trash(back.setId, signal);
  const [first] = (await volumes.list(signal)).filter(({ setId }) => setId === asked.setId);
  hear([first?.volumeId ?? ""]);
  await waitUntil("the other one is purged", () => reported()?.length === 1);
  expect((await volumes.list(signal)).map(({ setId, state }) => [setId, state])).toEqual([
    [back.setId, "trashed"],
  ]);
});

it("says why a volume is not purged, until it is, and keeps what a set is to have", async () => {
  const [held, wanted] = [newSpec(), newSpec()];
  const { volumeId } = await volumes.ensure(held, signal);
  const other = await volumes.ensure(wanted, signal);
  for (const { setId } of [held, wanted]) await volumes.trash(setId, signal);
  // Somebody mounts it by hand, and stays in it.
  const mountPoint = join(harness.root, volumeId);
  const image = join(harness.root, "..", "images", `${volumeId}.img`);
  const { stdout } = await run("losetup", ["--find", "--show", image]);
  await run("mount", [stdout.trim(), mountPoint]);
  const file = await open(join(mountPoint, "data", "open"), "w");
  nowMs += 10 * 60_000;
  const desired = { ...localSet(), desired: "running", restoreVolumeId: other.volumeId } as const;
  hear([], [desired]);
  const reasons = () => keeper.takeNews().volumes?.map(({ reason }) => reason?.code ?? null);
  await waitUntil("why is told", () => reasons()?.includes("volume-busy") === true);
  await file.close();
  await waitUntil("it is purged", () => reasons()?.length === 1);
  expect(reasons()).toEqual([null]);
  expect(await volumes.list(signal)).toMatchObject([{ volumeId: other.volumeId }]);
});
