import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import Docker from "dockerode";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { makeFileSystem } from "../../src/host-adapters/volumes/file-systems.ts";
import { createLvmStore } from "../../src/host-adapters/volumes/lvm-store.ts";
import { mountDevice, removeMountPoint, unmount } from "../../src/host-adapters/volumes/mounts.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import { runCommand } from "../../src/host-adapters/exec.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { ensureBaseImage } from "../support/docker/docker.ts";
import { localSet } from "../support/agent/local-set.ts";
import { median, percentile } from "./bench-services.ts";
import { readOptions } from "./read-options.ts";

/**
 * The time that an LVM volume adds to the start of a set on real Docker. It runs from the order to
 * the agent's Docker port until the containers run. Starts with and without a volume take turns.
 *
 * LVM is on the test host of scripts/uml, whose kernel is a process on one CPU. Nothing overlaps
 * there, and programs and disks are slow. The benchmark therefore also measures each command of a
 * volume, and the start of a program that does nothing, there and on this machine.
 */

const ROUNDS = 15;
const COMMAND_ROUNDS = 7;
const sizeBytes = 2 ** 30;
const volumeGroup = "berth";
const fileSystem = "ext4";
const { signal } = new AbortController();
const root = fileURLToPath(new URL("../../", import.meta.url));

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const args = [...(options.args ?? [])];
  if (process.env["BERTH_UML"] !== "1") {
    const machineProgramP50Ms = await programStart();
    return { ...(await runOnTestHost(args)), machineProgramP50Ms };
  }
  const { rounds } = readOptions(args, { rounds: ROUNDS });
  const hostId = newId("host");
  const starts = await measureStarts(hostId, rounds);
  const commandsP50Ms = await measureCommands(hostId);
  const programP50Ms = await programStart();
  for (const [command, tookMs] of Object.entries({ ...commandsP50Ms, nothing: programP50Ms }))
    process.stdout.write(`  ${command.padEnd(9)} ${tookMs} ms\n`);
  return { ...starts, commandsP50Ms, programP50Ms };
}

async function runOnTestHost(args: readonly string[]): Promise<Record<string, unknown>> {
  const command = [process.execPath, "--import", "tsx", "test/bench/main.ts", "volume-start"];
  const host = spawn(`${root}scripts/uml`, [...command, "--json", ...args], {
    cwd: root,
    env: { ...process.env, BERTH_UML_DOCKER: "1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(host, "exit");
  let result = "";
  for await (const line of createInterface({ input: host.stdout })) {
    if (line.startsWith("{")) result = line;
    else process.stdout.write(`${line}\n`);
  }
  const [code] = (await exited) as [number | null];
  if (code !== 0 || result === "") throw new Error(`the test host ended with ${code}`);
  return JSON.parse(result) as Record<string, unknown>;
}

async function measureStarts(hostId: string, rounds: number): Promise<Record<string, number>> {
  const docker = new Docker();
  await ensureBaseImage(docker);
  const volumes = createVolumes({
    store: createLvmStore({ hostId, volumeGroup }),
    root: await mkdtemp("/tmp/berth-mounts-"),
    fileSystem,
    retentionMs: 0,
    purgesEarly: false,
    log: silentLog,
  });
  volumes.updateRetention({
    controlPlaneTimeMs: Date.parse("2100-01-01"),
    wantedVolumeIds: new Set(),
  });
  const port = composeSetEngine({ docker, hostId, log: silentLog, volumes });
  const start = async (set: LocalSetSpec): Promise<number> => {
    const startedAtMs = performance.now();
    await port.prepare(set, signal);
    await port.start(set, ["app"], signal);
    const tookMs = performance.now() - startedAtMs;
    await port.remove(set.setId, signal);
    for (const { volumeId } of await volumes.list(signal)) await volumes.purge(volumeId, signal);
    return tookMs;
  };
  const volume = { size: String(sizeBytes), mountPath: "/data" };
  const kinds = [
    { set: () => localSet(), allMs: [] as number[] },
    { set: () => localSet({ template: { volume } }), allMs: [] as number[] },
  ] as const;
  for (const { set } of kinds) await start(set()); // images and code are warm afterwards
  for (let round = 0; round < rounds; round++) {
    const turns = round % 2 === 0 ? kinds : kinds.toReversed();
    for (const { set, allMs } of turns) allMs.push(await start(set()));
  }
  const [without, withVolume] = kinds.map(({ allMs }) => allMs);
  const [withoutP50Ms, withP50Ms] = [median(without ?? []), median(withVolume ?? [])];
  const addsP50Ms = withP50Ms - withoutP50Ms;
  process.stdout.write(
    `a set without a volume starts within ${withoutP50Ms} ms; one of its own (LVM, ${fileSystem}, ${sizeBytes / 2 ** 20} MiB) adds ${addsP50Ms} ms\n`,
  );
  return {
    rounds,
    withoutP50Ms,
    withoutP90Ms: percentile(without ?? [], 90),
    withP50Ms,
    withP90Ms: percentile(withVolume ?? [], 90),
    addsP50Ms,
  };
}

/** Measures each command for a new volume, in order, without other load. */
async function measureCommands(hostId: string): Promise<Record<string, number>> {
  const store = createLvmStore({ hostId, volumeGroup });
  const mountPoint = await mkdtemp("/tmp/berth-mount-");
  const allMs: Record<string, number[]> = {};
  const timed = async <T>(name: string, act: () => Promise<T>): Promise<T> => {
    const startedAtMs = performance.now();
    const result = await act();
    (allMs[name] ??= []).push(performance.now() - startedAtMs);
    return result;
  };
  for (let round = 0; round < COMMAND_ROUNDS; round++) {
    const owner = { setId: newId("set"), tenant: "default", service: "bench", generation: 1 };
    const volumeId = newId("vol");
    const volume = { volumeId, sizeBytes, tags: { ...owner, state: "new" as const } };
    await timed("lvs", () => store.list(signal));
    await timed("lvcreate", () => store.create(volume, signal));
    const device = await store.attach(volumeId, signal);
    const made = { device, sizeBytes, isImage: false };
    await timed("mkfs", () => makeFileSystem(fileSystem, made, signal));
    await timed("lvchange", () => store.retag(volume, { ...owner, state: "live" }, signal));
    await timed("mount", () => mountDevice({ device, type: fileSystem, mountPoint }, signal));
    await unmount(mountPoint, signal);
    await store.detach(volumeId, signal);
    await store.remove(volumeId, signal);
  }
  await removeMountPoint(mountPoint, signal);
  return Object.fromEntries(Object.entries(allMs).map(([name, values]) => [name, median(values)]));
}

async function programStart(): Promise<number> {
  const allMs: number[] = [];
  for (let round = 0; round < COMMAND_ROUNDS; round++) {
    const startedAtMs = performance.now();
    await runCommand("/usr/bin/true", [], { timeoutMs: 10_000 });
    allMs.push(performance.now() - startedAtMs);
  }
  return median(allMs);
}
