import { execFile } from "node:child_process";
import { open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import { systemClock } from "../../src/host-adapters/machine/system-clock.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { VolumeGc } from "../../src/agent/housekeeping/volume-gc.ts";
import type { SyncResult } from "../../src/contracts/agent-protocol/sync.ts";
import type { DesiredSet } from "../../src/contracts/agent-protocol/desired-set.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeHarness } from "../contract/volume-contract.ts";
import { openLoopHarness } from "../support/volumes/loop-harness.ts";
import { localSet } from "../support/agent/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";

const run = promisify(execFile);
const dayMs = 24 * 3_600_000;
const sizeBytes = 32 * 2 ** 20;
const { signal } = new AbortController();
let harness: VolumeHarness;
let volumes: VolumePort;
let volumeGc: VolumeGc;
let ran: Promise<void>;
let stopping: AbortController;
let nowMs = Date.now();

beforeEach(async () => {
  harness = await openLoopHarness("ext4", sizeBytes);
  const { root, fileSystem } = harness;
  const options = { root, fileSystem, retentionMs: 60_000, purgesEarly: false, log: silentLog };
  volumes = createVolumes({ ...options, store: harness.openStore() });
  // No clock of the host counts for the retention.
  const clock = { ...systemClock, wallMs: () => nowMs - 14 * dayMs };
  volumeGc = new VolumeGc({
    port: volumes,
    clock,
    log: silentLog,
    intervalMs: 50,
    onChange: () => undefined,
  });
  stopping = new AbortController();
  ran = volumeGc.run(stopping.signal);
});
afterEach(async () => {
  stopping.abort();
  await ran;
  await harness.close();
});

function newSpec(): VolumeSpec {
  return { setId: newId("set"), tenant: "default", service: "db", generation: 1, sizeBytes };
}

const newAnswer = (purgeVolumes: string[] = []): SyncResult => ({
  hostGeneration: 1,
  full: false,
  sets: [],
  streams: [],
  reportAgain: [],
  purgeVolumes,
  leaseSeconds: 45,
  serverTime: new Date(nowMs + dayMs).toISOString(),
  databaseTime: new Date(nowMs).toISOString(),
});

/** Simulates a sync and its answer by a control plane that wants these sets. */
const receiveAnswer = (purgeVolumes: string[] = [], desired: DesiredSet[] = []) => {
  const answer = newAnswer(purgeVolumes);
  volumeGc.beginSync()(answer);
  volumeGc.updateRetention(answer, desired);
};

const isRetentionStarted = async ({ setId }: VolumeSpec) =>
  (await volumes.list(signal)).some(
    (volume) => volume.setId === setId && volume.expiresAtMs !== undefined,
  );

/** Trashes the volume of a set, and waits until syncs have started its retention. */
async function trash(spec: VolumeSpec): Promise<void> {
  await volumes.trash(spec.setId, signal);
  await waitUntil("its retention has started", async () => {
    receiveAnswer();
    return isRetentionStarted(spec);
  });
}

const reported = () =>
  volumeGc
    .takeChanges()
    .volumes?.map((volume) => ("state" in volume ? volume.state : volume.volumeId));

it("volumes are reported, purged after expiry or on request, and never while a set uses them again", async () => {
  const [old, asked, back] = [newSpec(), newSpec(), newSpec()];
  for (const spec of [old, asked, back]) await volumes.ensure(spec, signal);
  await waitUntil("three are reported", () => reported()?.length === 3);
  await trash(old);
  nowMs += 60_000;
  await delay(200);
  // Expired, but the control plane has not answered since.
  expect(await volumes.list(signal)).toHaveLength(3);
  nowMs += 60_000;
  receiveAnswer();
  await waitUntil("the expired one is purged", () => reported()?.length === 2);

  const { volumeId } = await volumes.ensure(back, signal);
  receiveAnswer([volumeId]);
  await waitUntil("the request was checked", async () => {
    await volumes.trash(asked.setId, signal);
    return reported()?.includes("trashed") === true;
  });
  await trash(back);
  const [first] = (await volumes.list(signal)).filter(({ setId }) => setId === asked.setId);
  receiveAnswer([first?.volumeId ?? ""]);
  await waitUntil("the other one is purged", () => reported()?.length === 1);
  expect((await volumes.list(signal)).map(({ setId, state }) => [setId, state])).toEqual([
    [back.setId, "trashed"],
  ]);
});

it("I16: the retention starts with an answer to a sync after the trash, by the clock of the database", async () => {
  const spec = newSpec();
  await volumes.ensure(spec, signal);
  const receiveEarlierAnswer = volumeGc.beginSync();
  await volumes.trash(spec.setId, signal);
  await waitUntil("it is reported", () => reported()?.includes("trashed") === true);
  receiveEarlierAnswer(newAnswer());
  volumeGc.updateRetention(newAnswer(), []);
  await delay(500);
  expect(await isRetentionStarted(spec)).toBe(false);
  nowMs += 30_000;
  receiveAnswer();
  await waitUntil("its retention has started", () => isRetentionStarted(spec));
  expect(await volumes.list(signal)).toMatchObject([
    { trashedAtMs: nowMs, expiresAtMs: nowMs + 60_000 },
  ]);
  nowMs += 59_000;
  receiveAnswer();
  await delay(300);
  expect(await volumes.list(signal)).toHaveLength(1);
  nowMs += 1_000;
  receiveAnswer();
  await waitUntil("it is purged", () => reported()?.length === 0);
});

it("volumes are reported once, and once more after a forced report", async () => {
  await volumes.ensure(newSpec(), signal);
  await waitUntil("it is reported", () => reported()?.length === 1);
  volumeGc.takeChanges().onArrived();
  expect(reported()).toBeUndefined();
  volumeGc.forceResend();
  expect(reported()).toEqual(["live"]);
});

it("the reason of a failed purge is reported until it succeeds, and a wanted volume is retained", async () => {
  const [held, wanted] = [newSpec(), newSpec()];
  const { volumeId } = await volumes.ensure(held, signal);
  const other = await volumes.ensure(wanted, signal);
  for (const spec of [held, wanted]) await trash(spec);
  // A user mounts it and opens a file in it.
  const mountPoint = join(harness.root, volumeId);
  const image = join(harness.root, "..", "images", `${volumeId}.img`);
  const { stdout } = await run("losetup", ["--find", "--show", image]);
  await run("mount", [stdout.trim(), mountPoint]);
  const file = await open(join(mountPoint, "data", "open"), "w");
  nowMs += 10 * 60_000;
  const desired = { ...localSet(), desired: "running", restoreVolumeId: other.volumeId } as const;
  receiveAnswer([], [desired]);
  const reasons = () =>
    volumeGc
      .takeChanges()
      .volumes?.map((volume) => ("reason" in volume && volume.reason?.code) || null);
  await waitUntil("the reason is reported", () => reasons()?.includes("volume-busy") === true);
  await file.close();
  await waitUntil("the volume is purged", () => reasons()?.length === 1);
  expect(reasons()).toEqual([null]);
  expect(await volumes.list(signal)).toMatchObject([{ volumeId: other.volumeId }]);
});

it("a volume with unreadable tags is reported with its id only, until it is deleted", async () => {
  const { volumeId } = await volumes.ensure(newSpec(), signal);
  await volumes.ensure(newSpec(), signal);
  await waitUntil("both are reported", () => reported()?.length === 2);
  volumeGc.takeChanges().onArrived();
  const tags = join(harness.root, "..", "images", `${volumeId}.json`);
  // A newer release wrote the tags.
  await writeFile(tags, JSON.stringify({ state: "frozen" }));
  await waitUntil("the change is reported", () => reported() !== undefined);
  expect(reported()).toEqual(["live", volumeId]);
  volumeGc.takeChanges().onArrived();
  expect(reported()).toBeUndefined();
  await rm(tags);
  await waitUntil("the deletion is reported", () => reported() !== undefined);
  expect(reported()).toEqual(["live"]);
});
