import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { FileSystemType } from "../../../src/host-adapters/volumes/file-systems.ts";
import { createLoopStore } from "../../../src/host-adapters/volumes/loop-store.ts";
import { newId } from "../../../src/lib/ids.ts";
import type { VolumeHarness } from "../../contract/volume-contract.ts";
import { openStore, type StoreOptions } from "./volume-stores.ts";

const run = promisify(execFile);

/**
 * The capability that the kernel requires to grow a mounted ext4 (fs/ext4/ioctl.c). A container's
 * bounding set may lack it.
 */
const CAP_SYS_RESOURCE = 24n;

export async function mayGrowExt4(): Promise<boolean> {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(
    await readFile("/proc/self/status", "utf8"),
  )?.[1];
  return ((BigInt(`0x${effective ?? "0"}`) >> CAP_SYS_RESOURCE) & 1n) === 1n;
}

export interface LoopHarness extends VolumeHarness {
  storeOptions: Extract<StoreOptions, { backend: "loop" }>;
}

/** Volumes as image files in a folder that has space for six of `sizeBytes`. */
export async function openLoopHarness(
  fileSystem: FileSystemType,
  sizeBytes: number,
): Promise<LoopHarness> {
  const base = await mkdtemp(join(tmpdir(), "berth-volumes-"));
  const folder = join(base, "images");
  const root = join(base, "mounts");
  const hostId = newId("host");
  const totalBytes = 6 * sizeBytes;
  const disk = { folder, idPath: join(base, "images.id"), root };
  const storeOptions = { backend: "loop" as const, hostId, ...disk, totalBytes };
  const reboot = async () => {
    for (const name of await readdir(root).catch(() => [])) {
      await run("umount", ["--lazy", join(root, name)]).catch(() => undefined); // not mounted
    }
    const { stdout } = await run("losetup", [
      "--list",
      "--noheadings",
      "--output",
      "NAME,BACK-FILE",
    ]);
    for (const line of stdout.split("\n")) {
      const [device, image] = line.trim().split(/\s+/);
      if (device && image?.startsWith(folder)) await run("losetup", ["--detach", device]);
    }
  };
  return {
    storeOptions,
    openStore: () => openStore(storeOptions),
    root,
    fileSystem,
    sizeBytes,
    totalBytes,
    occupy: async (volumeId) => {
      const other = createLoopStore({ hostId: newId("host"), ...disk, totalBytes });
      const tags = { tenant: "default", service: "db", generation: 1, state: "live" as const };
      const { signal } = new AbortController();
      const volume = { volumeId, sizeBytes: 2 ** 20, tags: { ...tags, setId: newId("set") } };
      await other.create(volume, signal);
      const image = join(folder, `${volumeId}.img`);
      await writeFile(image, "theirs");
      return async () => (await readFile(image, "utf8")) === "theirs";
    },
    blocksOf: (volumeId) => join(folder, `${volumeId}.img`),
    reboot,
    left: async () => (await readdir(folder)).filter((name) => name.endsWith(".img")),
    crashStride: process.env["BERTH_UML"] === "1" ? 5 : 1,
    killStride: 1,
    close: async () => {
      await reboot();
      await run("chattr", ["-R", "-i", base]).catch(() => undefined);
      await rm(base, { recursive: true, force: true });
    },
  };
}
