import { expect, it } from "vitest";
import type { VolumePort } from "../../src/agent/ports/volume-port.ts";
import { Killed, mortalStore } from "../support/agent/mortal-store.ts";
import { checked } from "../support/volumes/volume-files.ts";
import { MiB, retentionMs, signal, type VolumeContract } from "./volume-contract.ts";

/** The part of the contract that is about crashes, what has vanished, what is somebody else's, and bad input. */
export function describeFaults(c: VolumeContract): void {
  it("shows what was never finished, so that it goes with its set", async () => {
    const spec = c.newSpec();
    const store = c.harness.openStore();
    store.attach = () => Promise.reject(new Killed());
    await expect(c.openPort({ store }).ensure(spec, signal)).rejects.toThrow(Killed);
    expect(await c.only(c.openPort())).toMatchObject({ setId: spec.setId, state: "new" });
    await c.openPort().trash(spec.setId, signal);
    expect(await c.port.list(signal)).toEqual([]);
  });

  it("makes no empty volume in place of one that has vanished", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await c.harness.reboot();
    await c.harness.openStore().remove(volumeId, signal);
    await expect(c.openPort().ensure(spec, signal)).rejects.toMatchObject({
      code: "volume-missing",
      message: expect.stringContaining("is not on this host any more"),
    });
    expect(await c.port.list(signal)).toEqual([]);
    await c.openPort().trash(spec.setId, signal); // the set is given up: it may begin anew
    await c.openPort().ensure(spec, signal);
  });

  it("refuses a set that has another volume than the one it is to have", async () => {
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

  it("I4: leaves alone what only has the name of a volume", async () => {
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

  it("lets nothing from outside become a path, an argument or a tag unseen", async () => {
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

  it("goes on after a crash between any two steps of its life, and loses no byte", async () => {
    const grownBytes = c.growsOnline ? c.sizeBytes * 1.5 : c.sizeBytes;
    for (let step = 1, killed = true; killed; step += c.harness.crashStride) {
      const spec = c.newSpec();
      const heir = c.newSpec();
      let check: (() => Promise<boolean>) | undefined;
      const life: ((of: VolumePort) => Promise<unknown>)[] = [
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
        store: mortalStore(c.harness.openStore(), () => --callsLeft === 0),
      });
      killed = false;
      for (const act of life) {
        await act(current).catch(async (error: unknown) => {
          if (!(error instanceof Killed)) throw error;
          killed = true;
          if (step % 2 === 0) await c.harness.reboot();
          current = c.openPort();
          await act(current);
        });
      }
      const back = c.newSpec({ restoreFrom: (await c.only()).volumeId });
      await c.port.ensure(back, signal);
      expect(await c.only()).toMatchObject({ sizeBytes: grownBytes });
      expect(await check?.()).toBe(true);
      await c.port.trash(back.setId, signal);
      c.nowMs += retentionMs;
      const dying = mortalStore(c.harness.openStore(), () => step % 3 === 0);
      const { volumeId } = await c.only();
      await c
        .openPort({ store: dying })
        .purge(volumeId, signal)
        .catch((error: unknown) => expect(error).toBeInstanceOf(Killed));
      await c.openPort().purge(volumeId, signal);
      expect(await c.openPort().list(signal)).toEqual([]);
      expect(await c.openPort().room(signal)).toMatchObject({ freeBytes: c.harness.totalBytes });
    }
  });
}
