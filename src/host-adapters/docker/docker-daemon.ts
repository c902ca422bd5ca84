import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import type Docker from "dockerode";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { CgroupManager, DaemonFeatures, DaemonPort } from "../../agent/ports/daemon-port.ts";
import { findBlockDevice } from "../../lib/linux/block-device.ts";
import type { Log } from "../../lib/log.ts";
import { callDocker } from "./call-docker.ts";
import { type DockerInfo, readDockerInfo } from "./docker-info.ts";
import { dockerFolder, findImageFolder } from "./image-folder.ts";
import { rememberSuccess } from "./remember-success.ts";

const infoTimeoutMs = 20_000;

export interface DockerDaemon extends DaemonPort {
  /** Queries the facts again at the next call, because another daemon may have replaced it. */
  forgetFacts(): void;
}

/**
 * DaemonPort on Docker. It queries the daemon and the machine once, and again after `forgetFacts`.
 * Callers share the answer, so none of them can cancel the query; its calls have deadlines.
 */
export function createDockerDaemon({ docker, log }: { docker: Docker; log: Log }): DockerDaemon {
  const { signal } = new AbortController();
  let found: DaemonFeatures | undefined;
  const facts = rememberSuccess(async () => {
    const previous = found;
    found = await findFacts(docker, log, signal);
    logChange(log, previous, found);
    return found;
  });
  return {
    facts: facts.get,
    forgetFacts: facts.forget,
    knownFacts: () => found,
    ping: (timeoutMs) => pingDaemon(docker, timeoutMs),
  };
}

/** With another cgroup manager, sets get new containers as soon as they are observed. */
function logChange(log: Log, previous: DaemonFeatures | undefined, found: DaemonFeatures) {
  if (!previous || isDeepStrictEqual(previous.cgroupManager, found.cgroupManager)) return;
  log.warn(
    { previous: previous.cgroupManager, current: found.cgroupManager },
    "Docker's cgroup driver or version has changed",
  );
}

async function findFacts(docker: Docker, log: Log, signal: AbortSignal): Promise<DaemonFeatures> {
  const [info, canRunPrivileged] = await Promise.all([
    readDockerInfo(docker, infoTimeoutMs, signal),
    hasAllCapabilities(),
  ]);
  if (!canRunPrivileged) {
    log.warn({}, "this machine restricts capabilities, so infra containers run unprivileged");
  }
  const cgroupManager = parseCgroupManager(info);
  const devices = await Promise.all(
    [await findImageFolder(info), dockerFolder(info)].map((folder) => findBlockDevice(folder)),
  );
  const diskDevices = [...new Set(devices.filter((device) => device !== undefined))];
  const hasUnknownDisk = devices.includes(undefined);
  const hasInit = info.InitCommit?.ID !== "N/A";
  if (!hasInit) log.warn({}, "Docker has no init, so containers must reap their own processes");
  return { canRunPrivileged, hasInit, cgroupManager, diskDevices, hasUnknownDisk };
}

/**
 * Throws for an unknown driver: a wrong one would replace all containers of the host. Docker before
 * 20.10 reports no version.
 */
function parseCgroupManager({ CgroupDriver, CgroupVersion }: DockerInfo): CgroupManager {
  if (CgroupDriver !== "systemd" && CgroupDriver !== "cgroupfs") {
    const message = `Berth needs Docker's cgroup driver "systemd" or "cgroupfs", and Docker uses "${CgroupDriver ?? ""}". Set native.cgroupdriver in Docker's daemon.json.`;
    throw new AgentError("not-supported", message, { phase: "observe", temporary: true });
  }
  return { driver: CgroupDriver, version: CgroupVersion === "2" ? 2 : 1 };
}

/**
 * True if the capability bounding set, which Docker's processes share, has every capability of the
 * kernel.
 */
async function hasAllCapabilities(): Promise<boolean> {
  const [status, last] = await Promise.all([
    readFile("/proc/self/status", "utf8"),
    readFile("/proc/sys/kernel/cap_last_cap", "utf8"),
  ]);
  const bounding = /^CapBnd:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0";
  return BigInt(`0x${bounding}`) === 2n ** (BigInt(last.trim()) + 1n) - 1n;
}

interface PingClient {
  ping(options: { abortSignal: AbortSignal }): Promise<unknown>;
}

/**
 * Pings and lists one container, because a bare ping succeeds even when the daemon's container
 * store hangs.
 */
async function pingDaemon(docker: Docker, timeoutMs: number): Promise<void> {
  const { signal } = new AbortController();
  await callDocker({ phase: "observe", timeoutMs }, signal, async (abortSignal) => {
    // The client's types lack this option.
    await (docker as unknown as PingClient).ping({ abortSignal });
    await docker.listContainers({ limit: 1, abortSignal });
  });
}
