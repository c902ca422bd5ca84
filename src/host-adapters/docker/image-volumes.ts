import { join } from "node:path";
import type { Log } from "../../lib/log.ts";
import { runCommand } from "../exec.ts";

const du = "/usr/bin/du";
const measureTimeoutMs = 60_000;
/** Paths for each call of the program, so that its arguments stay below the kernel's limit. */
const pathsPerCall = 100;
const volumeName = /^[0-9a-f]{64}$/;

/** A container with its mounts, as Docker lists it. */
export interface MountingContainer {
  Id: string;
  Mounts?: { Type?: string; Name?: string }[] | null | undefined;
}

/**
 * Measures the volumes that Docker creates for the VOLUME instructions of images, by the id of
 * their container. They last as long as the container, so they count as its root file system,
 * although Docker does not count them.
 *
 * A failure leaves the volumes of up to 100 containers out, so that it does not prevent the
 * measurement of the others.
 *
 * @param root Docker's folder
 */
export async function measureImageVolumes(
  containers: readonly MountingContainer[],
  { root, log }: { root: string; log: Log },
  signal: AbortSignal,
): Promise<Map<string, number>> {
  const owners = new Map<string, string>();
  for (const { Id: dockerId, Mounts: mounts } of containers) {
    for (const { Type: type, Name: name = "" } of mounts ?? []) {
      // Berth gives containers no volumes with names.
      if (type === "volume" && volumeName.test(name))
        owners.set(join(root, "volumes", name, "_data"), dockerId);
    }
  }
  const bytes = new Map<string, number>();
  const paths = [...owners.keys()];
  for (let start = 0; start < paths.length; start += pathsPerCall) {
    const measured = await measurePaths(paths.slice(start, start + pathsPerCall), signal).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        log.warn({ err: error }, "cannot measure volumes of images");
        return new Map<string, number>();
      },
    );
    for (const [path, usedBytes] of measured) {
      const dockerId = owners.get(path);
      if (dockerId !== undefined) bytes.set(dockerId, (bytes.get(dockerId) ?? 0) + usedBytes);
    }
  }
  return bytes;
}

/** Blocks on the disk in bytes, by path. */
async function measurePaths(
  paths: readonly string[],
  signal: AbortSignal,
): Promise<Map<string, number>> {
  const args = ["--summarize", "--block-size=1", "--one-file-system", "--null", "--", ...paths];
  const output = await runCommand(du, args, {
    timeoutMs: measureTimeoutMs,
    signal,
    // Files that vanish during the measurement.
    exitCodesAccepted: [1],
  });
  const lines = output.split("\0").filter((line) => line !== "");
  return new Map(
    lines.map((line) => {
      const [usedBytes = "", path = ""] = line.split("\t");
      return [path, Number(usedBytes)];
    }),
  );
}
