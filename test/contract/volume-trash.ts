import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import type { LocalVolume } from "../../src/agent/ports/volume-port.ts";
import { adoptVolumes } from "../../src/host-adapters/volumes/adopt-volumes.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { checked } from "../support/volumes/volume-files.ts";
import { openStore } from "../support/volumes/volume-stores.ts";
import { MiB, nothingWanted, retentionMs, signal, type VolumeContract } from "./volume-contract.ts";

/** The part of the contract about the destruction of volumes and its conditions. */
export function describeTrash(c: VolumeContract): void {
  it("I7: purges only trashed and expired volumes", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await expect(c.port.purge(volumeId, signal)).rejects.toThrow("is in use by set");
    await expect(c.port.expire(volumeId, signal)).rejects.toThrow("is in use by set");
    await c.trash(spec);
    await expect(c.port.purge(volumeId, signal)).rejects.toThrow(
      "is retained until 2026-01-01T01:00",
    );
    c.nowMs += retentionMs;
    expect(await c.port.capacity(signal)).toMatchObject({ reclaimableBytes: c.sizeBytes });
    await c.port.purge(volumeId, signal);
    expect(await c.port.list(signal)).toEqual([]);
    expect(await c.port.capacity(signal)).toMatchObject({ freeBytes: c.harness.totalBytes });
    await c.port.purge(volumeId, signal); // a missing volume is not an error
  });

  it("I16: retains a trashed volume without an expiry until the control plane starts its retention", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await c.port.trash(spec.setId, signal);
    expect(await c.only()).toMatchObject({ state: "trashed", expiresAtMs: undefined });
    c.nowMs += 2 * retentionMs;
    await expect(c.port.purge(volumeId, signal)).rejects.toThrow("is retained for now");
    await c.port.startRetention(volumeId, c.nowMs, signal);
    await c.port.startRetention(volumeId, c.nowMs + 1, signal); // a repetition changes nothing
    expect(await c.only()).toMatchObject({
      trashedAtMs: c.nowMs,
      expiresAtMs: c.nowMs + retentionMs,
    });
    c.nowMs += retentionMs;
    await c.port.purge(volumeId, signal);
    expect(await c.port.list(signal)).toEqual([]);
  });

  it("I16: an expiry by the host's clock, which an earlier release stored, does not count", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await c.trash(spec);
    const store = c.harness.openStore();
    const [volume] = (await store.list(signal)).volumes;
    if (!volume) throw new Error("it is listed");
    await store.retag(volume, { ...volume.tags, trashedAtMs: 1, expiresAtMs: 2 }, signal);
    await expect(c.port.purge(volumeId, signal)).rejects.toThrow("is retained for now");
    await c.startRetentions();
    expect(await c.only()).toMatchObject({ expiresAtMs: c.nowMs + retentionMs });
  });

  it("purges a volume before its expiry if a user requests it", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await c.trash(spec);
    await c.port.expire(volumeId, signal);
    await c.port.purge(volumeId, signal);
    expect(await c.port.list(signal)).toEqual([]);
  });

  it("I7: purges expired volumes for space, and other trash, oldest first, only if allowed", async () => {
    const large = Math.floor(c.harness.totalBytes / 2 / (4 * MiB)) * 4 * MiB - 4 * MiB;
    const [first, second] = [c.newSpec({ sizeBytes: large }), c.newSpec({ sizeBytes: large })];
    for (const spec of [first, second]) {
      await c.port.ensure(spec, signal);
      await c.trash(spec);
      c.nowMs += 1_000;
    }
    const third = c.newSpec({ sizeBytes: large });
    await expect(c.port.ensure(third, signal)).rejects.toMatchObject({
      code: "volume-no-room",
      temporary: true,
    });
    expect(await c.port.list(signal)).toHaveLength(2);
    expect(await c.port.capacity(signal)).toMatchObject({ reclaimableBytes: 0 });
    const eager = c.openPort({ purgesEarly: true });
    expect(await eager.capacity(signal)).toMatchObject({ reclaimableBytes: 2 * large });
    await eager.ensure(third, signal);
    const left = await c.port.list(signal);
    expect(left.map(({ setId }) => setId).sort()).toEqual([second.setId, third.setId].sort());
    c.nowMs += retentionMs;
    await c.port.ensure(c.newSpec({ sizeBytes: large }), signal);
    expect((await c.port.list(signal)).map(({ state }) => state)).toEqual(["live", "live"]);
  });

  it("I7: purges trash for a volume that grows, and for a restored one that is too small", async () => {
    const eager = c.openPort({ purgesEarly: true });
    const growing = c.newSpec();
    await eager.ensure(growing, signal);
    const [first, second] = [c.newSpec({ sizeBytes: 2 * c.sizeBytes }), c.newSpec()];
    for (const spec of [first, second]) {
      await eager.ensure(spec, signal);
      await c.trash(spec, eager);
      c.nowMs += 1_000;
    }
    // Six of six volumes are in use.
    await eager.ensure(c.newSpec({ sizeBytes: 2 * c.sizeBytes }), signal);
    if (c.growsOnline) {
      await eager.ensure({ ...growing, sizeBytes: 2 * c.sizeBytes }, signal);
      const left = (await eager.list(signal)).filter(({ state }) => state === "trashed");
      expect(left.map(({ setId }) => setId)).toEqual([second.setId]);
      const [{ volumeId }] = left as [LocalVolume];
      const heir = c.newSpec({ restoreFrom: volumeId, sizeBytes: 2 * c.sizeBytes });
      expect(await eager.ensure(heir, signal)).toMatchObject({ volumeId });
    }
  });

  it("I7: purges nothing if all trash together would not free enough space", async () => {
    const eager = c.openPort({ purgesEarly: true });
    const trashed = c.newSpec({ sizeBytes: 2 * c.sizeBytes });
    await eager.ensure(trashed, signal);
    await c.trash(trashed, eager);
    await expect(
      eager.ensure(c.newSpec({ sizeBytes: 7 * c.sizeBytes }), signal),
    ).rejects.toMatchObject({ code: "volume-no-room" });
    expect(await c.only(eager)).toMatchObject({ setId: trashed.setId, state: "trashed" });
  });

  it("I7, I12: purges nothing before the control plane's first answer, and no volume that a set wants", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    const check = await checked(c.port.getDataPath(spec), MiB);
    await c.trash(spec);
    c.nowMs += 2 * retentionMs;
    const unsynced = c.openUnsyncedPort({ purgesEarly: true });
    const retained = { code: "volume-refused" };
    await expect(unsynced.purge(volumeId, signal)).rejects.toMatchObject(retained);
    // The control plane's clock is behind.
    unsynced.updateRetention({ ...nothingWanted, controlPlaneTimeMs: c.nowMs - 2 * retentionMs });
    await expect(unsynced.purge(volumeId, signal)).rejects.toMatchObject(retained);
    unsynced.updateRetention({
      controlPlaneTimeMs: c.nowMs,
      wantedVolumeIds: new Set([volumeId]),
    });
    await expect(unsynced.purge(volumeId, signal)).rejects.toThrow("is about to be restored");
    expect(await unsynced.capacity(signal)).toMatchObject({
      reclaimableBytes: 0,
      trashedBytes: c.sizeBytes,
    });
    const greedy = c.newSpec({ sizeBytes: 6 * c.sizeBytes });
    await expect(unsynced.ensure(greedy, signal)).rejects.toMatchObject({ code: "volume-no-room" });
    const heir = c.newSpec({ restoreFrom: volumeId });
    await unsynced.ensure(heir, signal);
    expect(await check()).toBe(true);
  });

  it("I7: a volume is either restored or purged, never both", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await c.trash(spec);
    c.nowMs += retentionMs;
    const store = c.harness.openStore();
    const detach = store.detach.bind(store);
    store.detach = async (...args) => {
      await delay(150); // as long as a restore that does not wait takes
      await detach(...args);
    };
    const racing = c.openPort({ store });
    const purged = racing.purge(volumeId, signal);
    const heir = c.newSpec({ restoreFrom: volumeId });
    await expect(racing.ensure(heir, signal)).rejects.toMatchObject({ code: "volume-missing" });
    await purged;
    expect(await c.port.list(signal)).toEqual([]);
  });

  it("a late removal of a volume's previous set does not trash the volume again", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    await c.trash(spec);
    const first = c.newSpec({ restoreFrom: volumeId });
    const second = c.newSpec({ restoreFrom: volumeId });
    await c.port.ensure(first, signal);
    const store = c.harness.openStore();
    const detach = store.detach.bind(store);
    const racing = c.openPort({ store });
    const later: Promise<unknown>[] = [];
    store.detach = async (...args) => {
      // Meanwhile another set requests the volume, and the removal is repeated.
      later.push(racing.ensure(second, signal), racing.trash(first.setId, signal));
      await delay(150);
      await detach(...args);
    };
    await racing.trash(first.setId, signal);
    await Promise.all(later);
    expect(await c.only()).toMatchObject({ setId: second.setId, state: "live" });
  });

  it("transfers the trash of a host to another host on the same machine, which may restore it", async () => {
    const spec = c.newSpec();
    const { volumeId } = await c.port.ensure(spec, signal);
    const used = c.newSpec();
    await c.port.ensure(used, signal);
    await c.port.trash(spec.setId, signal);
    const hostId = newId("host");
    const adopt = () => adoptVolumes(c.harness.openStore(), { hostId, log: silentLog }, signal);
    await expect(adopt()).rejects.toMatchObject({ code: "volume-busy", temporary: true });
    expect(await c.only()).toMatchObject({ setId: used.setId, state: "live" });

    const store = openStore({ ...c.harness.storeOptions, hostId });
    const heir = c.openPort({ store });
    const others = async () => (await heir.listAll(signal)).otherHosts;
    expect(await others()).toEqual([{ hostId: c.harness.storeOptions.hostId, volumes: 1 }]);
    expect(await c.only(heir)).toMatchObject({ volumeId, setId: spec.setId, state: "trashed" });
    await heir.ensure(c.newSpec({ restoreFrom: volumeId }), signal);
    expect(await c.only(heir)).toMatchObject({ volumeId, state: "live" });
    await c.port.trash(used.setId, signal);
    await adopt();
    expect(await c.port.list(signal)).toEqual([]);
    expect(await heir.list(signal)).toHaveLength(2);
    expect(await others()).toEqual([]);
  });
}
