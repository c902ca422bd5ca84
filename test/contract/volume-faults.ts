import { expect, it } from "vitest";
import type { VolumePort } from "../../src/agent/ports/volume-port.ts";
import { ProcessKilled, createKillableStore } from "../support/volumes/killable-store.ts";
import { checked } from "../support/volumes/volume-files.ts";
import { MiB, retentionMs, signal, type VolumeContract } from "./volume-contract.ts";

/** The part of the contract about crashes, vanished volumes, foreign volumes and invalid input. */
export function describeFaults(c: VolumeContract): void {
  it("lists an unfinished volume, and deletes it with its set", async () => {
    const spec = c.newSpec();
    const store = c.harness.openStore();
    store.attach = () => Promise.reject(new ProcessKilled());
    await expect(c.openPort({ store }).ensure(spec, signal)).rejects.toThrow(ProcessKilled);
    expect(await c.only(c.openPort())).toMatchObject({ setId: spec.setId, state: "new" });
    await c.openPort().trash(spec.setId, signal);
    expect(await c.port.list(signal)).toEqual([]);
  });

  it("creates no empty volume in place of a vanished one", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await c.harness.reboot();
    await c.harness.openStore().remove(volumeId, signal);
    await expect(c.openPort().ensure(spec, signal)).rejects.toMatchObject({
      code: "volume-missing",
      message: expect.stringContaining("is missing on this host"),
    });
    expect(await c.port.list(signal)).toEqual([]);
    await c.openPort().trash(spec.setId, signal); // after the removal, the set may start empty
    await c.openPort().ensure(spec, signal);
  });

  it("refuses a set that has a different volume than the requested one", async () => {
    const [spec, other] = [c.newSpec(), c.newSpec()];
    await c.port.ensure(spec, signal);
    const { volumeId } = await c.port.ensure(other, signal);
    await c.port.trash(other.setId, signal);
    await expect(c.port.ensure({ ...spec, restoreFrom: volumeId }, signal)).rejects.toMatchObject({
      code: "volume-refused",
    });
    expect((await c.port.list(signal)).map(({ state }) => state).sort()).toEqual([
      "live",
      "trashed",
    ]);
  });

  it("I4: never changes a foreign object with the name of a volume", async () => {
    const spec = c.newSpec();
    const isUntouched = await c.harness.occupy(spec.setId.replace("set_", "vol_"));
    await expect(c.port.ensure(spec, signal)).rejects.toMatchObject({
      code: "volume-foreign",
      temporary: false,
    });
    await c.port.trash(spec.setId, signal);
    expect(await c.port.list(signal)).toEqual([]);
    expect(await isUntouched()).toBe(true);
  });

  it("continues after a kill inside the creation of the blocks, which completes all the same", async () => {
    const spec = c.newSpec();
    const store = c.harness.openStore();
    const list = store.list.bind(store);
    store.list = async (...args) => {
      store.list = list;
      const earlier = await list(...args);
      // The program of the killed agent ends between the list and the creation.
      const { setId, tenant, service, generation, sizeBytes } = spec;
      const tags = { setId, tenant, service, generation, state: "new" as const };
      const volumeId = setId.replace("set_", "vol_");
      await c.harness.openStore().create({ volumeId, sizeBytes, tags }, signal);
      return earlier;
    };
    await c.openPort({ store }).ensure(spec, signal);
    expect(await c.only()).toMatchObject({ setId: spec.setId, state: "live" });
  });

  it("refuses invalid input before it becomes a path, an argument or a tag", async () => {
    for (const setId of ["set_../../etc", "set_", "-rf", "set_a b", "set_a\0", "vol_a/../b"]) {
      await expect(c.port.ensure(c.newSpec({ setId }), signal)).rejects.toMatchObject({
        code: "volume-invalid",
      });
    }
    const odd = [{ tenant: "a b" }, { service: "--force" }, { tenant: "" }, { generation: -1 }];
    for (const changes of [...odd, { sizeBytes: 0 }, { sizeBytes: 1.5 }, { sizeBytes: NaN }]) {
      await expect(c.port.ensure(c.newSpec(changes), signal)).rejects.toMatchObject({
        code: "volume-invalid",
      });
    }
    for (const volumeId of ["../x", "vol_/", "vol_A", ""]) {
      await expect(c.port.purge(volumeId, signal)).rejects.toMatchObject({
        code: "volume-invalid",
      });
    }
    expect(await c.port.list(signal)).toEqual([]);
  });

  it("continues after a crash between any two steps, and loses no byte", async () => {
    const grownBytes = c.growsOnline ? c.sizeBytes * 1.5 : c.sizeBytes;
    for (let step = 1, killed = true; killed; step += c.harness.crashStride) {
      const spec = c.newSpec();
      const heir = c.newSpec();
      let check: (() => Promise<boolean>) | undefined;
      const steps: ((of: VolumePort) => Promise<unknown>)[] = [
        async (of) => {
          const { dataPath } = await of.ensure(spec, signal);
          check ??= await checked(dataPath, MiB);
        },
        (of) => of.ensure({ ...spec, sizeBytes: grownBytes }, signal),
        (of) => of.trash(spec.setId, signal),
        async (of) => {
          heir.restoreFrom ??= (await c.only(of)).volumeId;
          await of.ensure(heir, signal);
        },
        (of) => of.trash(heir.setId, signal),
      ];
      let callsLeft = step;
      let current = c.openPort({
        store: createKillableStore(c.harness.openStore(), () => --callsLeft === 0),
      });
      killed = false;
      for (const takeStep of steps) {
        await takeStep(current).catch(async (error: unknown) => {
          if (!(error instanceof ProcessKilled)) throw error;
          killed = true;
          if (step % 2 === 0) await c.harness.reboot();
          current = c.openPort();
          await takeStep(current);
        });
      }
      const back = c.newSpec({ restoreFrom: (await c.only()).volumeId });
      await c.port.ensure(back, signal);
      expect(await c.only()).toMatchObject({ sizeBytes: grownBytes });
      expect(await check?.()).toBe(true);
      await c.trash(back);
      c.nowMs += retentionMs;
      const dying = createKillableStore(c.harness.openStore(), () => step % 3 === 0);
      const { volumeId } = await c.only();
      await c
        .openPort({ store: dying })
        .purge(volumeId, signal)
        .catch((error: unknown) => expect(error).toBeInstanceOf(ProcessKilled));
      await c.openPort().purge(volumeId, signal);
      expect(await c.openPort().list(signal)).toEqual([]);
      expect(await c.openPort().capacity(signal)).toMatchObject({
        freeBytes: c.harness.totalBytes,
      });
    }
  });
}
