import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { DockerInfo } from "./docker-info.ts";

const dockerRootDefault = "/var/lib/docker";
const containerdRootDefault = "/var/lib/containerd";
const containerdConfigDefault = "/etc/containerd/config.toml";
const snapshotterType = "io.containerd.snapshotter.v1";

/** Docker's own folder, which has the volumes of images. */
export function dockerFolder({ DockerRootDir = dockerRootDefault }: Partial<DockerInfo>): string {
  return DockerRootDir;
}

/**
 * Returns the folder of the daemon's images and root file systems. With containerd's image store it
 * is a folder of containerd, which may be on a disk of its own. Its place depends on
 * containerd's configuration, and on whether Docker started this containerd.
 */
export async function findImageFolder(
  info: DockerInfo,
  {
    configPath = containerdConfigDefault,
    containerdRoot = containerdRootDefault,
  }: { configPath?: string; containerdRoot?: string } = {},
): Promise<string> {
  if (!usesContainerd(info)) return dockerFolder(info);
  const address = info.Containerd?.Address;
  const ofSystem = [await readConfiguredRoot(configPath), containerdRoot];
  const candidates =
    address === undefined
      ? // Older daemons do not report which containerd they use. An earlier one may leave folders.
        [path.join(dockerFolder(info), "containerd/daemon"), ...ofSystem]
      : [await readConfiguredRoot(ownConfigPath(address)), ...ofSystem];
  for (const folder of candidates)
    if (folder !== undefined && (await hasSnapshots(folder))) return folder;
  return dockerFolder(info);
}

/** A daemon that starts its own containerd writes the configuration beside its socket. */
function ownConfigPath(address: string): string {
  return path.join(path.dirname(address), "containerd.toml");
}

/** The name of the daemon's image store: a storage driver, or a snapshotter of containerd. */
export function readImageStore(info: Pick<DockerInfo, "Driver" | "DriverStatus">): string {
  const driver = info.Driver ?? "unknown";
  return usesContainerd(info) ? `containerd ${driver}` : driver;
}

function usesContainerd({ DriverStatus }: Pick<DockerInfo, "DriverStatus">): boolean {
  return (
    DriverStatus?.some(([name, value]) => name === "driver-type" && value === snapshotterType) ??
    false
  );
}

/** The top-level `root` of containerd's configuration; undefined without one. */
async function readConfiguredRoot(configPath: string): Promise<string | undefined> {
  const config = await readFile(configPath, "utf8").catch(() => "");
  const [topLevel = ""] = config.split(/^\s*\[/m);
  return /^\s*root\s*=\s*["']([^"']+)["']/m.exec(topLevel)?.[1];
}

async function hasSnapshots(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch(() => []);
  return names.some((name) => name.startsWith(snapshotterType));
}
