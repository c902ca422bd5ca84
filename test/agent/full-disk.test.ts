import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openStateFile } from "../../src/host-adapters/state-file/state-file.ts";
import type { AcceptedAnswer } from "../../src/agent/loop/desired-sets.ts";
import { PersistedState } from "../../src/agent/loop/persisted-state.ts";
import type { DesiredSet } from "../../src/contracts/agent-protocol/desired-set.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type IdentityOptions, obtainIdentity } from "../../src/main/compose/host-identity.ts";
import type { ProcessContext } from "../../src/main/compose/run-process.ts";
import { localSet } from "../support/agent/local-set.ts";

const run = promisify(execFile);
let folder: string;

/** A file system of 256 KiB. */
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-full-"));
  await run("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]);
});

afterEach(async () => {
  await run("umount", [folder]);
  await rm(folder, { recursive: true });
});

async function fill(): Promise<void> {
  await writeFile(path.join(folder, "filler"), Buffer.alloc(2 ** 20)).catch(() => undefined);
}

function answer(hostGeneration: number, sets: DesiredSet[]) {
  const lists = { streams: [], reportAgain: [], purgeVolumes: [] };
  const serverTime = new Date().toISOString();
  return { hostGeneration, full: false, sets, ...lists, leaseSeconds: 45, serverTime };
}

test("a full file system delays new sets, but neither deletes nor stops, and leaves the state intact", async () => {
  const file = path.join(folder, "host-agent.json");
  const store = openStateFile(file);
  await store.saveIdentity({ hostId: newId("host"), credential: "brt_secret" });
  const state = new PersistedState(store, await store.load(), silentLog);
  const applied: AcceptedAnswer[] = [];
  const accept = (hostGeneration: number, sets: DesiredSet[]) =>
    state.accept(answer(hostGeneration, sets), (accepted) => applied.push(accepted));
  const old = { ...localSet(), desired: "running" as const };
  await accept(1, [old]);
  await fill();
  const deleted = { ...old, generation: 2, desired: "deleted" as const };
  const added = { ...localSet(), desired: "running" as const };
  await expect(accept(2, [deleted, added])).rejects.toMatchObject({ code: "ENOSPC" });
  expect(applied.at(-1)).toMatchObject({ changed: [deleted], isComplete: false });
  expect(state.fault?.code).toBe("disk-full");
  expect(state.persistedGeneration).toBe(1);
  expect(await readdir(folder)).toEqual(expect.arrayContaining(["filler", "host-agent.json"]));
  expect(await readdir(folder)).toHaveLength(2);
  expect(await openStateFile(file).load()).toMatchObject({ acceptedGeneration: 1, desired: [old] });
  await rm(path.join(folder, "filler"));
  await accept(2, []);
  expect(applied.slice(2).flatMap(({ changed }) => changed)).toEqual([added]);
  expect(state.fault).toBeUndefined();
  expect((await openStateFile(file).load())?.acceptedGeneration).toBe(2);
});

test("an agent that replaces one of an older release starts on a full file system", async () => {
  const file = path.join(folder, "host-agent.json");
  const identity = { hostId: newId("host"), credential: "brt_secret" };
  await openStateFile(file).saveIdentity(identity);
  await fill();
  const store = openStateFile(file);
  const options = { state: store, machineId: "m1" } as IdentityOptions;
  const context = { log: silentLog } as ProcessContext;
  const { signal } = new AbortController();
  expect(await obtainIdentity(options, context, signal)).toMatchObject(identity);
  expect(await openStateFile(file).loadIdentity()).toEqual(identity);
  await rm(path.join(folder, "filler"));
  const state = new PersistedState(store, await store.load(), silentLog);
  await state.save();
  expect(await openStateFile(file).loadIdentity()).toEqual({ ...identity, machineId: "m1" });
});
