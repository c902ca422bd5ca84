import { execFile } from "node:child_process";
import { mkdtemp, open, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { FileSystemType } from "../../src/host-adapters/volumes/file-systems.ts";
import { newId } from "../../src/lib/ids.ts";
import type { VolumeHarness } from "../contract/volume-contract.ts";
import { openStore } from "../support/volumes/volume-stores.ts";
import { extentBytes } from "./volume-group.ts";

const run = promisify(execFile);
export const volumeGroup = "berth";

/** Opens the volume group, which is empty. */
export async function openLvmHarness(
  fileSystem: FileSystemType,
  sizeBytes: number,
): Promise<VolumeHarness> {
  const storeOptions = { backend: "lvm" as const, hostId: newId("host"), volumeGroup };
  const root = await mkdtemp("/tmp/berth-mounts-");
  const unmountAll = async () => {
    for (const name of await readdir(root)) {
      await run("umount", [join(root, name)]).catch(() => undefined); // not mounted
    }
  };
  return {
    storeOptions,
    openStore: () => openStore(storeOptions),
    root,
    fileSystem,
    sizeBytes,
    totalBytes: 6 * sizeBytes,
    occupy: async (volumeId) => {
      await run("lvcreate", ["-y", "-n", volumeId, "-L", `${extentBytes}b`, volumeGroup]);
      const device = `/dev/mapper/${volumeGroup}-${volumeId}`;
      const file = await open(device, "r+");
      await file.write("theirs");
      await file.close();
      return async () => {
        await run("lvs", [`${volumeGroup}/${volumeId}`]);
        return (await readFile(device)).toString("latin1", 0, 6) === "theirs";
      };
    },
    blocksOf: (volumeId) => `/dev/mapper/${volumeGroup}-${volumeId}`,
    reboot: async () => {
      await unmountAll();
      await run("vgchange", ["-an", volumeGroup]);
    },
    left: async () => {
      const { stdout } = await run("lvs", ["--noheadings", "-o", "lv_name", volumeGroup]);
      return stdout.split("\n").flatMap((line) => line.trim() || []);
    },
    crashStride: 5,
    killStride: 2,
    close: async () => {
      await unmountAll();
      await run("lvremove", ["-f", "-y", volumeGroup]);
      await run("chattr", ["-R", "-i", root]).catch(() => undefined);
      await rm(root, { recursive: true, force: true });
    },
  };
}
