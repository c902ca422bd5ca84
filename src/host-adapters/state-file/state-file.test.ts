import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { enrollBody } from "../../contracts/agent-protocol/enroll.ts";
import { newId } from "../../lib/ids.ts";
import { openStateFile } from "./state-file.ts";

describe("the state file", () => {
  let folder: string;
  let file: string;
  const identity = { hostId: newId("host"), credential: "brt_secret" };
  const set = { ...localSet(), desired: "running" as const };
  const counts = {
    app: { restarts: 2, oomKills: 1, oomKillsInRun: 1, lastCountedRun: "app@1" },
  };
  const reason = { code: "rootfs-exceeded", text: "too much" };
  const exit = { code: 0, finishedAt: "2026-01-01T00:00:00Z" };
  const lastRun = { run: "job@1", infraRun: "boot:7:1", specHash: "hash", exit };
  const runs = { infraRun: "boot:7:1", containers: { job: lastRun } };
  const stopped = { specKey: "key", usedBytes: 9, reason };
  const histories = { [set.setId]: { stopped, counts, runs } };
  const state = {
    acceptedGeneration: 7,
    desired: [set],
    hasRun: { [set.setId]: "key" },
    histories,
  };

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "berth-state-"));
    file = path.join(folder, "deep", "host-agent.json");
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("is empty at first, then has the saved state, and only its owner can read it", async () => {
    const before = openStateFile(file);
    expect(await before.loadIdentity()).toBeUndefined();
    await before.saveIdentity(identity);
    await before.save(state);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const after = openStateFile(file);
    expect(await after.loadIdentity()).toEqual(identity);
    expect(await after.load()).toMatchObject(state);
  });

  it("stores the credential before the enrollment", async () => {
    const store = openStateFile(file);
    const credential = await store.beginEnrollment();
    expect(enrollBody.shape.credential.safeParse(credential).success).toBe(true);
    expect(await store.loadIdentity()).toBeUndefined();
    await expect(store.save(state)).rejects.toThrow("without an identity");
    const next = openStateFile(file); // of the agent after a killed one
    expect(await next.loadIdentity()).toBeUndefined();
    expect(await next.beginEnrollment()).toBe(credential);
    await next.saveIdentity({ ...identity, credential });
    expect(await openStateFile(file).loadIdentity()).toEqual({ ...identity, credential });
  });

  it("retains the credentials of a rotation in each save, and the previous ones if its save fails", async () => {
    const store = openStateFile(file);
    await store.saveIdentity(identity);
    const credentials = {
      credential: "brt_b",
      nextCredential: "brt_c",
      previousCredentials: ["brt_a"],
    };
    await store.saveCredentials(credentials);
    await store.save(state);
    await store.bindMachine("m1");
    const after = openStateFile(file);
    expect(await after.loadCredentials()).toEqual(credentials);
    expect(await after.load()).toMatchObject(state);
    await rm(path.dirname(file), { recursive: true });
    await writeFile(path.dirname(file), "in the way");
    await expect(after.saveCredentials({ credential: "brt_d" })).rejects.toThrow();
    await rm(path.dirname(file));
    await after.save(state);
    expect(await openStateFile(file).loadCredentials()).toEqual(credentials);
  });

  it("has the last of many concurrent saves", async () => {
    const store = openStateFile(file);
    await store.saveIdentity(identity);
    const saves = Array.from({ length: 50 }, (_, i) =>
      store.save({ ...state, acceptedGeneration: i }),
    );
    await Promise.all(saves);
    expect((await openStateFile(file).load())?.acceptedGeneration).toBe(49);
  });

  it("is whole even if two processes write it at the same time", async () => {
    const stores = [openStateFile(file), openStateFile(file)];
    for (const store of stores) await store.saveIdentity(identity);
    const desired = Array.from({ length: 200 }, () => set);
    const saves = stores.flatMap(async (store, i) => {
      for (let round = 0; round < 50; round++)
        await store.save({ ...state, desired: i === 0 ? desired : [] });
    });
    await Promise.all(saves);
    expect(await openStateFile(file).loadIdentity()).toEqual(identity);
    expect(await readdir(path.dirname(file))).toEqual([path.basename(file)]);
  });

  it("removes the temporary files of killed agents", async () => {
    await openStateFile(file).saveIdentity(identity);
    await writeFile(`${file}.8c1d.new`, "{");
    expect(await openStateFile(file).loadIdentity()).toEqual(identity);
    expect(await readdir(path.dirname(file))).toEqual([path.basename(file)]);
  });

  it("is on disk when its save resolves, whatever is saved meanwhile", async () => {
    const store = openStateFile(file);
    await store.saveIdentity(identity);
    const seen: number[] = [];
    await Promise.all(
      [1, 2, 3].map(async (acceptedGeneration) => {
        await store.save({ ...state, acceptedGeneration });
        const text = await readFile(file, "utf8");
        const found = (JSON.parse(text) as { acceptedGeneration: number }).acceptedGeneration;
        expect(found).toBeGreaterThanOrEqual(acceptedGeneration);
        seen.push(acceptedGeneration);
      }),
    );
    expect(seen).toHaveLength(3);
  });

  it("reads and writes the field names of older agents", async () => {
    const older = {
      version: 1,
      ...identity,
      acceptedGeneration: 7,
      desired: [set],
      hasRun: { [set.setId]: "key" },
      ["kept"]: {
        [set.setId]: {
          stopped: { specKey: "key", usedBytes: 9, reason },
          counts: { app: { restarts: 2, oomKills: 1, oomKillsOfLife: 1, countedLife: "app@1" } },
          runs,
        },
      },
    };
    await openStateFile(file).saveIdentity(identity);
    await writeFile(file, JSON.stringify(older));
    const store = openStateFile(file);
    expect(await store.load()).toMatchObject(state);
    await store.save(state);
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual(older);
  });

  it("reads each entry alone, so that a downgrade loses only the entries of a newer agent", async () => {
    const newer = { ...set, setId: newId("set"), generation: 3 };
    const store = openStateFile(file);
    await store.saveIdentity(identity);
    await store.save(state);
    const content = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
    const text = JSON.stringify({
      ...content,
      desired: [set, { ...newer, holograms: true }, { other: 1 }],
      hasRun: { [set.setId]: "key", [newer.setId]: { key: "of a newer agent" } },
      ["kept"]: { ...(content["kept"] as object), [newer.setId]: { counts: { app: "many" } } },
    });
    await writeFile(file, text);
    const downgraded = openStateFile(file);
    const loaded = await downgraded.load();
    expect(loaded).toMatchObject(state);
    expect(loaded?.unsupported).toMatchObject([
      { setId: newer.setId, generation: 3, desired: "running" },
    ]);
    if (loaded) await downgraded.save(loaded);
    expect(await openStateFile(file).load()).toEqual(loaded);
  });

  it("ignores unknown hints and retains the identity", async () => {
    await openStateFile(file).saveIdentity(identity);
    const content = { version: 1, ...identity, acceptedGeneration: 7, desired: [{ other: 1 }] };
    await writeFile(file, JSON.stringify(content));
    const store = openStateFile(file);
    expect(await store.load()).toMatchObject({ acceptedGeneration: 7, desired: [], hasRun: {} });
    expect(await store.loadIdentity()).toEqual(identity);
  });

  it.each(["", "{", '{"version":2}', '{"version":1,"hostId":"x"}'])(
    "is an error, and never a new start, if it contains %j",
    async (text) => {
      await openStateFile(file).saveIdentity(identity);
      await writeFile(file, text);
      const store = openStateFile(file);
      await expect(store.loadIdentity()).rejects.toThrow("is not the state of a host agent");
      await expect(store.save(state)).rejects.toThrow();
      expect(await readFile(file, "utf8")).toBe(text);
    },
  );
});
