import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import Docker from "dockerode";
import { type ChildServer, startChildServer } from "../servers/child-server.ts";
import { waitUntil } from "../wait-until.ts";

const run = promisify(execFile);
const startDeadlineMs = 60_000;

/** A Docker daemon that belongs to one test, which may stop, hang and kill it. */
export interface PrivateDocker {
  docker: Docker;
  socketPath: string;
  /** Sends a signal to the daemon: SIGSTOP hangs it, SIGCONT resumes it. */
  signal(signal: NodeJS.Signals): void;
  /** Kills the daemon; its containers' processes live until it is started again. */
  kill(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts a daemon with its own data, socket and bridge beside the machine's. Its network has no
 * iptables rules: the host reaches its containers, and they reach nothing else.
 */
export async function startPrivateDocker(): Promise<PrivateDocker> {
  const directory = await mkdtemp(join(tmpdir(), "berth-docker-"));
  const number = process.pid % 250;
  const bridge = `berth${process.pid}`.slice(0, 15);
  await run("ip", ["link", "add", bridge, "type", "bridge"]);
  await run("ip", ["addr", "add", `10.213.${number}.1/24`, "dev", bridge]);
  await run("ip", ["link", "set", bridge, "up"]);
  const socketPath = join(directory, "docker.sock");
  const docker = new Docker({ socketPath });
  let daemon: ChildServer | undefined;
  const start = async () => {
    // Without a reaper of orphans, the dead containerd still counts as a living process.
    for (const pidFile of ["docker.pid", "exec/containerd/containerd.pid"]) {
      await rm(join(directory, pidFile), { force: true });
    }
    const started = startChildServer("dockerd", [
      `--host=unix://${socketPath}`,
      `--data-root=${directory}/data`,
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
    start,
    signal: (signal) => {
      if (daemon) process.kill(daemon.pid, signal);
    },
    kill: async () => daemon?.kill("SIGKILL"),
    close: async () => {
      const left = await docker.listContainers({ all: true }).catch(() => []);
      await Promise.all(
        left.map(({ Id }) => docker.getContainer(Id).remove({ force: true, v: true })),
      );
      await daemon?.kill("SIGTERM").catch(() => daemon?.kill("SIGKILL"));
      await run("ip", ["link", "delete", bridge]);
      // A daemon bind-mounts its data folder, and a killed daemon does not unmount it.
      await run("umount", ["--recursive", "--lazy", join(directory, "data")]).catch(
        () => undefined,
      );
      await rm(directory, { recursive: true, force: true });
    },
  };
}
