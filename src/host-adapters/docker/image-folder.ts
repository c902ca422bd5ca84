import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { DockerInfo } from "./docker-info.ts";

export const dockerRootDefault = "/var/lib/docker";
const containerdRootDefault = "/var/lib/containerd";
const containerdConfigDefault = "/etc/containerd/config.toml";
const snapshotterType = "io.containerd.snapshotter.v1";

/**
 * Returns the folder of the daemon's images and root file systems. With containerd's image store it
 * is a folder of containerd, which may be on a disk of its own. Its place depends on
 * containerd's configuration, and on whether Docker started this containerd.
 */
export async function findImageFolder(
  { DockerRootDir = dockerRootDefault, DriverStatus }: DockerInfo,
  {
    configPath = containerdConfigDefault,
    containerdRoot = containerdRootDefault,
  }: { configPath?: string; containerdRoot?: string } = {},
): Promise<string> {
  if (!usesContainerd({ DriverStatus })) return DockerRootDir;
  const ofDocker = path.join(DockerRootDir, "containerd/daemon");
  const configured = await readConfiguredRoot(configPath);
  // Docker's containerd has a configuration of its own, so the folder shows which one is in use.
  for (const folder of [ofDocker, configured, containerdRoot])
    if (folder !== undefined && (await hasSnapshots(folder))) return folder;
  return DockerRootDir;
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
