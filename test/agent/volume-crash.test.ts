import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type LoopHarness, openLoopHarness } from "../support/loop-harness.ts";
import type { VolumeWork } from "../support/volume-child.ts";
import { checked } from "../support/volume-files.ts";

const MiB = 2 ** 20;
const sizeBytes = 320 * MiB;
const { signal } = new AbortController();
const child = fileURLToPath(new URL("../support/volume-child.ts", import.meta.url));
let harness: LoopHarness;

beforeEach(async () => {
  harness = await openLoopHarness("xfs", sizeBytes);
});
afterEach(() => harness.close());

function openVolumes(): VolumePort {
  const { root } = harness;
  const options = { root, fileSystem: "xfs" as const, retentionMs: 3_600_000, purgesEarly: false };
  const volumes = createVolumes({ store: harness.openStore(), ...options, log: silentLog });
  volumes.heed({ atMs: Infinity, wantedVolumeIds: new Set() });
  return volumes;
}

/** Lets a process of its own work on the volumes and kills it, hard, after so many milliseconds of work. */
async function workAndDie(work: VolumeWork, afterMs: number): Promise<void> {
  const dying = spawn(process.execPath, ["--import", "tsx", child, JSON.stringify(work)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(dying, "exit");
  await once(dying.stdout, "data");
  await delay(afterMs); // the moment of death is what is varied here, nothing is waited for
  dying.kill("SIGKILL");
  await exited;
}

it("kill -9 at any moment of making, growing, trashing, restoring and purging: no byte is lost, nothing left", async () => {
  const tenant = { tenant: "default", service: "db", generation: 1 };
  let holder: VolumeSpec = { ...tenant, setId: newId("set"), sizeBytes };
  const { volumeId, dataPath } = await openVolumes().ensure(holder, signal);
  const check = await checked(dataPath, MiB);
  let volumes = openVolumes();
  for (let round = 0; round < 16; round++) {
    await workAndDie({ store: harness.storeOptions, root: harness.root, holder }, 5 + round * 29);
    volumes = openVolumes();
    for (const { service, setId, state, volumeId: id } of await volumes.list(signal)) {
      if (service !== "passing") continue;
      await volumes.trash(setId, signal);
      if (state === "new") continue;
      await volumes.expire(id, signal);
      await volumes.purge(id, signal);
    }
    const [only, ...others] = await volumes.list(signal);
    expect(others).toEqual([]);
    expect(only).toMatchObject({ volumeId });
    const grownBytes = Math.max(sizeBytes, only?.sizeBytes ?? 0);
    const isLive = only?.state === "live";
    const setId = isLive ? only.setId : newId("set");
    holder = { ...tenant, setId, sizeBytes: grownBytes, restoreFrom: volumeId };
    expect(await volumes.ensure(holder, signal)).toEqual({ volumeId, dataPath });
    expect(await check()).toBe(true);
  }
  await volumes.trash(holder.setId, signal);
  await volumes.expire(volumeId, signal);
  await volumes.purge(volumeId, signal);
  const left = (await readdir(harness.storeOptions.folder)).filter((name) => name.endsWith(".img"));
  expect(left).toEqual([]);
  expect(await readdir(harness.root)).toEqual([]);
});
