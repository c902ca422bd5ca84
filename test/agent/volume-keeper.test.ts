import { afterEach, beforeEach, expect, it } from "vitest";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import { systemClock } from "../../src/agent/clock.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { VolumeKeeper } from "../../src/agent/volume-keeper.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeHarness } from "../contract/volume-contract.ts";
import { openLoopHarness } from "../support/loop-harness.ts";
import { waitUntil } from "../support/wait-until.ts";

const sizeBytes = 32 * 2 ** 20;
const { signal } = new AbortController();
let harness: VolumeHarness;
let volumes: VolumePort;
let keeper: VolumeKeeper;
let ran: Promise<void>;
const stopping = new AbortController();
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

const reported = () => keeper.takeNews().volumes?.map(({ state }) => state);

it("reports what there is, purges what is expired or asked for, and forgets an order for what is used again", async () => {
  const [old, asked, back] = [newSpec(), newSpec(), newSpec()];
  for (const spec of [old, asked, back]) await volumes.ensure(spec, signal);
  await waitUntil("three are reported", () => reported()?.length === 3);
  await volumes.trash(old.setId, signal);
  nowMs += 60_000;
  await waitUntil("the expired one is purged", () => reported()?.length === 2);

  const { volumeId } = await volumes.ensure(back, signal);
  keeper.askForPurges([volumeId]);
  await waitUntil("the order was looked at", async () => {
    await volumes.trash(asked.setId, signal);
    return reported()?.includes("trashed") === true;
  });
  await volumes.trash(back.setId, signal);
  const [first] = (await volumes.list(signal)).filter(({ setId }) => setId === asked.setId);
  keeper.askForPurges([first?.volumeId ?? ""]);
  await waitUntil("the other one is purged", () => reported()?.length === 1);
  expect((await volumes.list(signal)).map(({ setId, state }) => [setId, state])).toEqual([
    [back.setId, "trashed"],
  ]);
});
