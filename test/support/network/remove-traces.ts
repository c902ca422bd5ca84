import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { promisify } from "node:util";
import Docker from "dockerode";
import { removeHost } from "../docker/docker-host.ts";
import { startStandInPlugin } from "../docker/stand-in-plugin.ts";
import { findFilteredBridges, removeFilterChains } from "./filter-chains.ts";

const run = promisify(execFile);
const docker = new Docker();

/** Something on the machine that outlives a process. */
export type Trace =
  | { namespace: string }
  /** A bridge of Open vSwitch or of the kernel, with the chains of its driver. */
  | { bridge: string }
  /** Another interface. */
  | { link: string }
  /** The links of a driver. */
  | { linkPrefix: string }
  /** The socket of a plugin. */
  | { file: string }
  /** A network driver of the machine's Docker, with its networks. */
  | { plugin: string }
  /** The sets of a host in the machine's Docker. */
  | { hostId: string }
  /** An image of the machine's Docker. */
  | { image: string }
  /** A folder with image files of volumes, and their mounts. */
  | { folder: string };

/** Removes all of it that exists. Returns what could not be removed, with the reasons. */
export async function removeTraces(traces: readonly Trace[]): Promise<string[]> {
  const failures: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    await work().catch((error: unknown) => failures.push(`${what}: ${String(error)}`));
  };
  const each = async <K extends string>(
    kind: K,
    work: (name: string) => Promise<unknown>,
  ): Promise<void> => {
    for (const trace of traces) {
      const name = (trace as Partial<Record<K, string>>)[kind];
      if (name !== undefined) await attempt(`${kind} ${name}`, () => work(name));
    }
  };
  // Docker waits for the driver of each container and network that it removes.
  const standIns: { close(): Promise<void> }[] = [];
  await each("plugin", async (plugin) => standIns.push(await startStandInPlugin(plugin)));
  await each("hostId", (hostId) => removeHost(docker, hostId));
  await each("plugin", removeDockerNetworks);
  for (const standIn of standIns) await standIn.close();
  await each("namespace", removeNamespace);
  for (const kind of ["link", "bridge"] as const) await each(kind, removeLink);
  await each("linkPrefix", removeLinks);
  const bridges = traces.flatMap((trace) => ("bridge" in trace ? [trace.bridge] : []));
  const filtered = bridges.length > 0 ? await findFilteredBridges(bridges) : [];
  for (const bridge of filtered)
    await attempt(`chains ${bridge}`, () => removeFilterChains(bridge));
  await each("file", (file) => rm(file, { force: true }));
  await each("folder", removeFolder);
  await each("image", removeImage);
  return failures;
}

async function removeDockerNetworks(plugin: string): Promise<void> {
  const networks = await docker.listNetworks({ filters: { driver: [plugin] } });
  for (const { Id: id } of networks) await docker.getNetwork(id).remove();
}

async function removeNamespace(namespace: string): Promise<void> {
  const isThere = () => existsSync(`/run/netns/${namespace}`);
  await ifPresent(isThere, () => run("ip", ["netns", "delete", namespace]));
}

async function removeLink(name: string): Promise<void> {
  const isThere = () => existsSync(`/sys/class/net/${name}`);
  await ifPresent(isThere, () => run("ip", ["link", "delete", name]));
}

async function removeLinks(linkPrefix: string): Promise<void> {
  const own = new RegExp(`^${linkPrefix}[hcu]-`);
  const names = await readdir("/sys/class/net");
  for (const name of names.filter((each) => own.test(each))) await removeLink(name);
}

/** Unmounts the volumes, and detaches their loop devices. */
async function removeFolder(folder: string): Promise<void> {
  const mounts = (await readFile("/proc/self/mounts", "utf8"))
    .split("\n")
    .flatMap((line) => line.split(" ")[1] ?? [])
    .filter((mount) => mount.startsWith(`${folder}/`));
  for (const mount of mounts.toReversed()) await run("umount", [mount]);
  const list = ["--list", "--noheadings", "--output", "NAME,BACK-FILE"];
  for (const line of (await run("/usr/sbin/losetup", list)).stdout.split("\n")) {
    const [device, image] = line.trim().split(/\s+/);
    if (device !== undefined && image?.startsWith(`${folder}/`))
      await run("/usr/sbin/losetup", ["--detach", device]);
  }
  // The mount points of volumes are immutable.
  if (existsSync(folder)) await run("chattr", ["-R", "-f", "-i", folder]).catch(() => undefined);
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

async function removeImage(image: string): Promise<void> {
  const { stdout } = await run("docker", ["image", "ls", "--quiet", image]);
  if (stdout !== "") await run("docker", ["image", "rm", image]);
}

/** Another run may remove the same thing, or the kernel with its peer. */
async function ifPresent(isThere: () => boolean, work: () => Promise<unknown>): Promise<void> {
  if (!isThere()) return;
  await work().catch((error: unknown) => {
    if (isThere()) throw error;
  });
}
