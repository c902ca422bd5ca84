import { readdir, statfs } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import type { VolumePort, VolumeSpec } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeDeed } from "../support/volumes/volume-child.ts";
import { checked } from "../support/volumes/volume-files.ts";
import { openVolumeProcesses, type VolumeProcesses } from "../support/volumes/volume-process.ts";
import { MiB, nothingWanted, retentionMs, signal, type VolumeHarness } from "./volume-contract.ts";

/** What a volume is grown by, each time: LVM's extent. */
const growthBytes = 4 * MiB;
const passingBytes = 16 * MiB;
const tenant = { tenant: "default", generation: 1 };

/** One that a process is killed in the middle of, and what the next life of the agent makes of it. */
interface KilledAct {
  next: () => VolumeDeed;
  converge: (volumes: VolumePort) => Promise<void>;
}

/**
 * What the contract says of crashes (volume-faults.ts), with real processes that are killed. A volume with data is there all
 * the time, and none of its bytes may be lost.
 * @param moments at how many moments of its work, at step boundaries or not, a process is killed, so many milliseconds apart
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

    /** As the next life of the agent opens them. */
    function openVolumes(): VolumePort {
      const { root, fileSystem } = harness;
      const options = { root, fileSystem, retentionMs, purgesEarly: false, log: silentLog };
      const volumes = createVolumes({ store: harness.openStore(), ...options });
      volumes.heed(nothingWanted);
      return volumes;
    }

    const work = (deed: VolumeDeed) => {
      const { storeOptions: store, root, fileSystem } = harness;
      return { store, root, fileSystem, deed };
    };

    /**
     * Does these one after the other, over and over: each time killed at a later moment, until all get through. What is left
     * of it is done by the next life.
     */
    async function killAtEachStep(...acts: KilledAct[]): Promise<void> {
      const kills = acts.map(() => 0);
      for (let diesAt = 1, isKilled = true; isKilled; diesAt += harness.killStride) {
        isKilled = false;
        for (const [index, { next, converge }] of acts.entries()) {
          if (await processes.dieWithin({ ...work(next()), diesAt })) {
            isKilled = true;
            kills[index] = (kills[index] ?? 0) + 1;
          }
          await converge(openVolumes());
        }
      }
      // Each changes the store twice at least, and there are two moments for each change.
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
      expect(await volumes.room(signal)).toMatchObject({ freeBytes: harness.totalBytes });
    }

    it("at each step of growing, trashing and restoring a volume: it is done, and every byte there", async () => {
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
      const trashing: KilledAct = {
        next: () => ({ act: "trash", setId: holder.setId }),
        converge: async (volumes) => {
          await volumes.trash(holder.setId, signal);
          await expectDone(volumes, { state: "trashed", usedBytes: undefined });
        },
      };
      const restoring: KilledAct = {
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

    it("at each step of making and purging a volume: nothing of it is left, its neighbour unharmed", async () => {
      let spec = holder;
      let passingId = "";
      const making: KilledAct = {
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
      const purging: KilledAct = {
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

    it("at any moment of all that, in the middle of a step too: no byte is lost, nothing left", async () => {
      for (let round = 0; round < moments.count; round++) {
        await processes.dieAfter(work({ act: "live", spec: holder }), 5 + round * moments.apartMs);
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
