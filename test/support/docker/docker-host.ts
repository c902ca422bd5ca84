import { existsSync } from "node:fs";
import { readdir, rmdir } from "node:fs/promises";
import type Docker from "dockerode";
import { removeContainers } from "./remove-containers.ts";

const cgroupRoot = "/sys/fs/cgroup";

/** Removes everything that a test left of a host in Docker and in the cgroup file systems. */
export async function removeHost(docker: Docker, hostId: string): Promise<void> {
  await removeContainers(docker, `berth.host=${hostId}`);
  for (const hierarchy of await readdir(cgroupRoot)) {
    const path = `${cgroupRoot}/${hierarchy}/berth/${hostId}`;
    for (const setId of await readdir(path).catch(() => [])) {
      await rmdir(`${path}/${setId}`).catch(() => undefined); // a file of the cgroup, not a set
    }
    await rmdir(path).catch(() => undefined);
  }
}

/** Paths of the cgroups of a host that contain those of its sets, in all hierarchies. */
export async function findHostCgroups(hostId: string): Promise<string[]> {
  const paths = (await readdir(cgroupRoot)).flatMap((hierarchy) => [
    `${cgroupRoot}/${hierarchy}/berth/${hostId}`,
    `${cgroupRoot}/${hierarchy}/berth.slice/berth-${hostId}.slice`,
    `${cgroupRoot}/${hierarchy}/berth-${hostId}.slice`, // version 2, which has no hierarchies
  ]);
  return paths.filter((path) => existsSync(path));
}

/** Names of the set cgroups of a host, in all hierarchies. */
export async function leftCgroups(hostId: string): Promise<string[]> {
  const found: string[] = [];
  for (const hierarchy of await readdir(cgroupRoot)) {
    const path = `${cgroupRoot}/${hierarchy}/berth/${hostId}`;
    const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) if (entry.isDirectory()) found.push(`${hierarchy}/${entry.name}`);
  }
  return found;
}
