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
  const { DriverStatus, Containerd } = info;
  const usesContainerd = DriverStatus?.some(
    ([name, value]) => name === "driver-type" && value === snapshotterType,
  );
  if (!usesContainerd) return dockerFolder(info);
  const ofSystem = [await readConfiguredRoot(configPath), containerdRoot];
  const candidates = Containerd?.Address
    ? [await readConfiguredRoot(ownConfigPath(Containerd.Address)), ...ofSystem]
    : // Older daemons do not report which containerd they use. An earlier one may leave folders.
      [path.join(dockerFolder(info), "containerd/daemon"), ...ofSystem];
  for (const folder of candidates)
    if (folder !== undefined && (await hasSnapshots(folder))) return folder;
  return dockerFolder(info);
}

/** A daemon that starts its own containerd writes the configuration beside its socket. */
function ownConfigPath(address: string): string {
  return path.join(path.dirname(address), "containerd.toml");
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
