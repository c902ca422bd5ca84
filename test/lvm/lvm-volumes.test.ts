import { execFile } from "node:child_process";
import { mkdtemp, open, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import type { FileSystemType } from "../../src/agent/adapters/volume/file-systems.ts";
import { createLvmStore } from "../../src/agent/adapters/volume/lvm-store.ts";
import { newId } from "../../src/lib/ids.ts";
import { describeVolumePort, type VolumeHarness } from "../contract/volume-port.ts";
import { extentBytes, makeVolumeGroup } from "./volume-group.ts";

const run = promisify(execFile);
const MiB = 2 ** 20;
const { signal } = new AbortController();

const volumeGroup = "berth";
const sizeBytes = 32 * MiB;
const totalBytes = 6 * sizeBytes;

beforeAll(() => makeVolumeGroup(volumeGroup, totalBytes));
describeVolumePort("LVM with ext4", { growsOnline: true }, () => openHarness("ext4"));

/** The volume group, empty. */
async function openHarness(fileSystem: FileSystemType): Promise<VolumeHarness> {
  const hostId = newId("host");
  const root = await mkdtemp("/tmp/berth-mounts-");
  const unmountAll = async () => {
    for (const name of await readdir(root)) {
      await run("umount", [join(root, name)]).catch(() => undefined); // not mounted
    }
  };
  return {
    openStore: () => createLvmStore({ hostId, volumeGroup }),
    root,
    fileSystem,
    sizeBytes,
    totalBytes,
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
    reboot: async () => {
      await unmountAll();
      await run("vgchange", ["-an", volumeGroup]);
    },
    crashStride: 5,
    close: async () => {
      await unmountAll();
      await run("lvremove", ["-f", "-y", volumeGroup]);
      await run("chattr", ["-R", "-i", root]).catch(() => undefined);
      await rm(root, { recursive: true, force: true });
    },
  };
}

test("a volume group that is not there is said to be missing, and looked for again", async () => {
  const store = createLvmStore({ hostId: newId("host"), volumeGroup: "nowhere" });
  const missing = { code: "volume-missing", temporary: true };
  await expect(store.list(signal)).rejects.toMatchObject(missing);
  await expect(store.room(signal)).rejects.toMatchObject(missing);
});
