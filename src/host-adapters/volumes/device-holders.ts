import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { deviceNumbers } from "../../lib/linux/block-device.ts";
import { volumeError } from "./block-store.ts";

/** One message names at most this many holders. */
const namedHoldersMax = 3;

/**
 * Creates the error for a device that cannot be detached. It names the processes whose mount
 * namespaces still have it mounted. The usual holder is a container that binds the host's root
 * directory: it has a private copy of each mount of its start.
 */
export async function deviceBusy(
  volumeId: string,
  device: string,
  cause?: unknown,
): Promise<Error> {
  const holders = await listHolders(device).catch(() => []);
  const by = holders.length > 0 ? holders.join(", ") : "another process";
  return volumeError(
    "volume-busy",
    `volume ${volumeId} is unmounted, but ${by} still holds its device ${device}. Stop the holder, or bind host directories with the propagation rslave.`,
    { temporary: true, cause },
  );
}

/** Lists one process of each other mount namespace with a mount of the device. */
async function listHolders(device: string): Promise<string[]> {
  const { rdev } = await stat(device);
  const numbers = deviceNumbers(rdev);
  const seen = new Set([await readlink("/proc/self/ns/mnt")]);
  const holders: string[] = [];
  for (const processId of await readdir("/proc")) {
    if (!/^\d+$/.test(processId)) continue;
    const namespace = await readlink(`/proc/${processId}/ns/mnt`).catch(ignoreEnded);
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    const mounts = await readFile(`/proc/${processId}/mountinfo`, "utf8").catch(ignoreEnded);
    if (!mounts?.split("\n").some((line) => line.split(" ")[2] === numbers)) continue;
    const name = await readFile(`/proc/${processId}/comm`, "utf8").catch(ignoreEnded);
    holders.push(`process ${processId} (${name?.trim() ?? "ended"})`);
    if (holders.length === namedHoldersMax) break;
  }
  return holders;
}

/** A process may end while it is read. */
function ignoreEnded(): undefined {
  return undefined;
}
