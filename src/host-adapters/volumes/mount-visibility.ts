import { readFile, readlink } from "node:fs/promises";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { VolumePort } from "../../agent/ports/volume-port.ts";

/**
 * Whether other processes of the machine, such as Docker, see mounts of this process in a folder.
 * Settings of a unit, such as PrivateTmp=, give it mounts of its own. Then Docker would bind the
 * empty mount point, and containers would write their data to the disk of the machine.
 */
export async function areMountsVisible(
  folder: string,
  { procRoot = "/proc" }: { procRoot?: string } = {},
): Promise<boolean> {
  const [own, first] = await Promise.all(
    ["self", "1"].map((id) => readlink(`${procRoot}/${id}/ns/mnt`).catch(() => undefined)),
  );
  if (own === undefined || first === undefined || own === first) return true;
  return isPropagated(await readFile(`${procRoot}/self/mountinfo`, "utf8"), folder);
}

/** Exported for tests. True if the mount of the folder propagates mounts, and receives none. */
export function isPropagated(mountinfo: string, folder: string): boolean {
  let found = { mountPoint: "", fields: [] as string[] };
  for (const line of mountinfo.split("\n")) {
    const [left = ""] = line.split(" - ");
    const [, , , , mountPoint = "", , ...fields] = left.split(" ");
    const isAbove = mountPoint === "/" || `${folder}/`.startsWith(`${mountPoint}/`);
    // Of equal mount points, the last mount hides the others.
    if (isAbove && mountPoint !== "" && mountPoint.length >= found.mountPoint.length)
      found = { mountPoint, fields };
  }
  const isShared = found.fields.some((field) => field.startsWith("shared:"));
  return isShared && !found.fields.some((field) => field.startsWith("master:"));
}

/** Makes a port mount nothing and report no capacity. Mounted volumes and the trash stay. */
export function refuseMounts(port: VolumePort): VolumePort {
  const refuse = async (): Promise<never> => {
    throw new AgentError(
      "volume-not-visible",
      "Docker does not see the volumes that the agent mounts. Remove PrivateTmp=, PrivateMounts= and similar settings from the unit of the agent, or share its data folder.",
      { phase: "volume", temporary: true },
    );
  };
  return Object.assign(port, { ensure: refuse, capacity: refuse });
}
