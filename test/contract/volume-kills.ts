import { readdir, statfs } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeAction } from "../support/volumes/volume-child.ts";
import { checked } from "../support/volumes/volume-files.ts";
import { openVolumeProcesses, type VolumeProcesses } from "../support/volumes/volume-process.ts";
import { MiB, nothingWanted, retentionMs, signal, type VolumeHarness } from "./volume-contract.ts";

/** Each growth of a volume: LVM's extent. */
const growthBytes = 4 * MiB;
const passingBytes = 16 * MiB;
const tenant = { tenant: "default", generation: 1 };

/** A call during which a process is killed, and the calls of the next agent that complete it. */
interface KilledStep {
  next: () => VolumeAction;
  converge: (volumes: VolumePort) => Promise<void>;
}

/**
 * Tests the crash contract (volume-faults.ts) with real processes that are killed. A volume with
 * data exists all the time, and none of its bytes may be lost.
 *
 * @param moments the number of kills at any moment of the work, and the time between two moments
 */
export function describeVolumeKills(
  backend: string,
  openHarness: () => Promise<VolumeHarness>,
  moments: { count: number; apartMs: number },
): void {
  describe(`kill -9: ${backend}`, () => {
    let processes: VolumeProcesses;
    let harness: VolumeHarness;
    let holder: VolumeSpec;
    let volumeId: string;
    let check: () => Promise<boolean>;
    beforeAll(async () => {
      processes = await openVolumeProcesses();
    });
    afterAll(() => processes.close());
    beforeEach(async () => {
      harness = await openHarness();
      const { sizeBytes } = harness;
      holder = { ...tenant, setId: newId("set"), service: "db", sizeBytes };
      const made = await openVolumes().ensure(holder, signal);
      volumeId = made.volumeId;
      check = await checked(made.dataPath, MiB);
    });
    afterEach(() => harness.close());

    /** Opens the volumes like the next agent. */
    function openVolumes(): VolumePort {
      const { root, fileSystem } = harness;
      const options = { root, fileSystem, retentionMs, purgesEarly: false, log: silentLog };
      const volumes = createVolumes({ store: harness.openStore(), ...options });
      volumes.updateRetention(nothingWanted);
      return volumes;
    }

    const work = (action: VolumeAction) => {
      const { storeOptions: store, root, fileSystem } = harness;
      return { store, root, fileSystem, action };
    };

    /**
     * Repeats the calls in sequence. Each repetition kills them at a later moment, until all
     * complete. The next agent completes an interrupted call.
     */
    async function killAtEachStep(...acts: KilledStep[]): Promise<void> {
      const kills = acts.map(() => 0);
      for (let killAtMoment = 1, isKilled = true; isKilled; killAtMoment += harness.killStride) {
        isKilled = false;
        for (const [index, { next, converge }] of acts.entries()) {
          if (await processes.runUntilKill({ ...work(next()), killAtMoment })) {
            isKilled = true;
            kills[index] = (kills[index] ?? 0) + 1;
          }
          await converge(openVolumes());
        }
      }
      // Each call changes the store at least twice, and each change has two moments.
      for (const count of kills) expect(count * harness.killStride).toBeGreaterThanOrEqual(4);
    }

    async function purge(volumes: VolumePort, id: string): Promise<void> {
      await volumes.expire(id, signal);
      await volumes.purge(id, signal);
    }

    async function expectNothingLeft(): Promise<void> {
      const volumes = openVolumes();
      await volumes.trash(holder.setId, signal);
      await purge(volumes, volumeId);
      expect(await harness.left()).toEqual([]);
      expect(await readdir(harness.root)).toEqual([]);
      expect(await volumes.capacity(signal)).toMatchObject({ freeBytes: harness.totalBytes });
    }

    it("growing, trashing and restoring complete after a kill at each step, with every byte", async () => {
      const { dataPath } = await openVolumes().ensure(holder, signal);
      const sizeOfFileSystem = async () => {
        const { blocks, bsize } = await statfs(dataPath);
        return blocks * bsize;
      };
      const expectDone = async (volumes: VolumePort, done: object) => {
        expect(await volumes.list(signal)).toMatchObject([{ volumeId, ...done }]);
      };
      let filledBytes = await sizeOfFileSystem();
      await killAtEachStep({
        next: () => {
          holder = { ...holder, sizeBytes: holder.sizeBytes + growthBytes };
          return { act: "ensure", spec: holder };
        },
        converge: async (volumes) => {
          await volumes.ensure(holder, signal);
          const { setId, sizeBytes } = holder;
          await expectDone(volumes, { state: "live", setId, sizeBytes });
          expect(await sizeOfFileSystem()).toBeGreaterThan(filledBytes);
          filledBytes = await sizeOfFileSystem();
          expect(await check()).toBe(true);
        },
      });
      const trashing: KilledStep = {
        next: () => ({ act: "trash", setId: holder.setId }),
        converge: async (volumes) => {
          await volumes.trash(holder.setId, signal);
          await expectDone(volumes, { state: "trashed", usedBytes: undefined });
        },
      };
      const restoring: KilledStep = {
        next: () => {
          holder = { ...holder, setId: newId("set"), restoreFrom: volumeId };
          return { act: "ensure", spec: holder };
        },
        converge: async (volumes) => {
          await volumes.ensure(holder, signal);
          await expectDone(volumes, { state: "live", setId: holder.setId });
          expect(await check()).toBe(true);
        },
      };
      await killAtEachStep(trashing, restoring);
      await expectNothingLeft();
    });

    it("creating and purging a volume leave no remains after a kill at each step, and change no other volume", async () => {
      let spec = holder;
      let passingId = "";
      const making: KilledStep = {
        next: () => {
          spec = { ...holder, setId: newId("set"), service: "passing", sizeBytes: passingBytes };
          return { act: "ensure", spec };
        },
        converge: async (volumes) => {
          const made = await volumes.ensure(spec, signal);
          passingId = made.volumeId;
          expect(await (await checked(made.dataPath, MiB))()).toBe(true);
          await volumes.trash(spec.setId, signal);
          expect(await volumes.list(signal)).toHaveLength(2);
        },
      };
      const purging: KilledStep = {
        next: () => ({ act: "purge", volumeId: passingId }),
        converge: async (volumes) => {
          await purge(volumes, passingId);
          expect(await volumes.list(signal)).toMatchObject([{ volumeId, state: "live" }]);
        },
      };
      await killAtEachStep(making, purging);
      expect(await check()).toBe(true);
      await expectNothingLeft();
    });

    it("a kill at any moment, even during a step, loses no byte and leaves no remains", async () => {
      for (let round = 0; round < moments.count; round++) {
        await processes.killAfter(work({ act: "live", spec: holder }), 5 + round * moments.apartMs);
        const volumes = openVolumes();
        for (const { service, setId, state, volumeId: id } of await volumes.list(signal)) {
          if (service !== "passing") continue;
          await volumes.trash(setId, signal);
          if (state !== "new") await purge(volumes, id);
        }
        const [only, ...others] = await volumes.list(signal);
        expect(others).toEqual([]);
        expect(only).toMatchObject({ volumeId });
        const sizeBytes = Math.max(holder.sizeBytes, only?.sizeBytes ?? 0);
        const setId = only?.state === "live" ? only.setId : newId("set");
        holder = { ...holder, setId, sizeBytes, restoreFrom: volumeId };
        expect(await volumes.ensure(holder, signal)).toMatchObject({ volumeId });
        expect(await check()).toBe(true);
      }
      await expectNothingLeft();
    });
  });
}
