import { existsSync } from "node:fs";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import Docker from "dockerode";
import { noteTraces } from "../network/machine-traces.ts";
import { type ChildServer, startChildServer } from "../servers/child-server.ts";
import { waitUntil } from "../wait-until.ts";
import { removeContainers } from "./remove-containers.ts";

const run = promisify(execFile);
const startDeadlineMs = 60_000;
/** The Dockers that scripts/setup fetches with scripts/lib/fetch-docker. */
const fetchedFolder = fileURLToPath(new URL("../../../.berth", import.meta.url));

export type DockerVersion = "26" | "28";
/** Docker's own store, or that of containerd, which is Docker's default from 29 on. */
export type ImageStore = "docker" | "containerd";

export interface PrivateDockerOptions {
  /** The default is the machine's Docker. */
  version?: DockerVersion | undefined;
  imageStore?: ImageStore;
  /** A network namespace with the daemon's interfaces. The default is the machine's. */
  namespace?: string | undefined;
  /** Puts the folder of containerd on a disk of its own, of this size. */
  imageDiskBytes?: number;
}

/** A Docker daemon that belongs to one test, which may stop, hang and kill it. */
export interface PrivateDocker {
  docker: Docker;
  socketPath: string;
  /** Docker's folder, and the one of the containerd that Docker starts. */
  folders: { docker: string; containerd: string };
  /** Sends a signal to the daemon: SIGSTOP hangs it, SIGCONT resumes it. */
  signal(signal: NodeJS.Signals): void;
  /** Kills the daemon; its containers' processes live until it is started again. */
  kill(): Promise<void>;
  /** Ends the daemon in order, and starts it again with an image store. */
  restart(imageStore: ImageStore): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts a daemon with its own data, socket and bridge beside the machine's. Its network has no
 * iptables rules: the host reaches its containers, and they reach nothing else.
 */
export async function startPrivateDocker({
  version,
  imageStore = "docker",
  namespace,
  imageDiskBytes,
}: PrivateDockerOptions = {}): Promise<PrivateDocker> {
  // Only the network: the daemon needs the mounts of the machine.
  const enter = namespace === undefined ? [] : ["nsenter", `--net=/run/netns/${namespace}`];
  const ip = (...args: string[]) =>
    run("ip", [...(namespace === undefined ? [] : ["-n", namespace]), ...args]);
  const directory = await mkdtemp(join(tmpdir(), "berth-docker-"));
  const number = process.pid % 250;
  const bridge = `berth${process.pid}`.slice(0, 15);
  if (namespace === undefined) noteTraces({ bridge });
  await ip("link", "add", bridge, "type", "bridge");
  await ip("addr", "add", `10.213.${number}.1/24`, "dev", bridge);
  await ip("link", "set", bridge, "up");
  const socketPath = join(directory, "docker.sock");
  const docker = new Docker({ socketPath });
  let daemon: ChildServer | undefined;
  const folders = {
    docker: join(directory, "data"),
    containerd: join(directory, "data/containerd/daemon"),
  };
  const disk = join(directory, "image-disk");
  if (imageDiskBytes !== undefined) {
    await mountDisk(imageDiskBytes, disk);
    await mkdir(folders.docker, { recursive: true });
    await symlink(disk, join(folders.docker, "containerd"));
  }
  const fetched = join(fetchedFolder, `docker-${version}/bin`);
  if (version !== undefined && !existsSync(fetched))
    throw new Error(`${fetched} is missing. Run scripts/setup test, which fetches it.`);
  const programs = version === undefined ? "" : `${fetched}:`;
  let store = imageStore;
  const start = async () => {
    // Without a reaper of orphans, the dead containerd still counts as a living process.
    for (const pidFile of ["docker.pid", "exec/containerd/containerd.pid"]) {
      await rm(join(directory, pidFile), { force: true });
    }
    const features = { "containerd-snapshotter": store === "containerd" };
    await writeFile(join(directory, "daemon.json"), JSON.stringify({ features }));
    const started = startChildServer("env", [
      `PATH=${programs}${process.env["PATH"]}`,
      ...enter,
      "dockerd",
      `--config-file=${directory}/daemon.json`,
      `--host=unix://${socketPath}`,
      `--data-root=${folders.docker}`,
      `--exec-root=${directory}/exec`,
      `--pidfile=${directory}/docker.pid`,
      `--bridge=${bridge}`,
      "--iptables=false",
      "--log-level=error",
    ]);
    daemon = started;
    await waitUntil("the private dockerd answers", async () => docker.ping(), {
      deadlineMs: startDeadlineMs,
      everyMs: 50,
    }).catch((error: unknown) => {
      throw new Error(started.outputTail(), { cause: error });
    });
  };
  await start();
  return {
    docker,
    socketPath,
    folders,
    start,
    signal: (signal) => {
      if (daemon) process.kill(daemon.pid, signal);
    },
    kill: async () => daemon?.kill("SIGKILL"),
    restart: async (next) => {
      store = next;
      await daemon?.kill("SIGTERM");
      await start();
    },
    close: async () => {
      const isUp = await docker.ping().then(Boolean, () => false);
      if (isUp) await removeContainers(docker);
      await daemon?.kill("SIGTERM").catch(() => daemon?.kill("SIGKILL"));
      await ip("link", "delete", bridge);
      // A daemon bind-mounts its data folder, and a killed daemon does not unmount it.
      await run("umount", ["--recursive", "--lazy", folders.docker]).catch(() => undefined);
      if (imageDiskBytes !== undefined)
        await run("umount", ["--lazy", disk]).catch(() => undefined);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function mountDisk(sizeBytes: number, folder: string): Promise<void> {
  const image = `${folder}.img`;
  await writeFile(image, "");
  await truncate(image, sizeBytes);
  await run("mkfs.ext4", ["-q", "-F", image]);
  await mkdir(folder, { recursive: true });
  await run("mount", ["-o", "loop", image, folder]);
}
