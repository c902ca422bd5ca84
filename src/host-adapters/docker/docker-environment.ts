import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import type Docker from "dockerode";
import type { Log } from "../../lib/log.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import { createSetCgroups } from "../cgroups/create-set-cgroups.ts";
import type { CgroupManager } from "../cgroups/set-cgroups.ts";
import { findBlockDevice } from "../machine/block-device.ts";
import type { DockerContext, DockerEnvironment } from "./docker-context.ts";
import { type DockerInfo, readDockerInfo } from "./docker-info.ts";
import { findImageFolder } from "./image-folder.ts";
import { ensureInfraImage } from "./infra-image.ts";
import type { PullImage } from "./pull-image.ts";

const infoTimeoutMs = 20_000;

export interface DockerEnvironmentOptions {
  docker: Docker;
  hostId: string;
  log: Log;
  pullImage: PullImage;
  infraImage: string | undefined;
  busyboxPath: string;
  cgroupRoot: string;
}

/**
 * Queries the daemon and the machine once, and again after `forgetEnvironment`. A failure is not
 * cached: the next call queries again. Callers share the answer, so none of them can cancel the
 * query; its calls have deadlines.
 */
export function createDockerEnvironment(options: DockerEnvironmentOptions): Pick<
  DockerContext,
  "environment" | "forgetEnvironment" | "infraImage" | "restoreInfraImage"
> & {
  /** The known environment, without a query. */
  knownEnvironment: () => DockerEnvironment | undefined;
} {
  const { signal } = new AbortController();
  const image = rememberSuccess(() =>
    ensureInfraImage(
      options.docker,
      {
        configured: options.infraImage,
        busyboxPath: options.busyboxPath,
        pullImage: options.pullImage,
      },
      signal,
    ),
  );
  let found: DockerEnvironment | undefined;
  const environment = rememberSuccess(async () => {
    const previous = found;
    found = await findEnvironment(options, signal);
    logChange(options.log, previous, found);
    return found;
  });
  return {
    environment: environment.get,
    forgetEnvironment: environment.forget,
    knownEnvironment: () => found,
    infraImage: image.get,
    restoreInfraImage: image.renew,
  };
}

function rememberSuccess<T>(ask: () => Promise<T>): {
  get: () => Promise<T>;
  renew: () => Promise<T>;
  forget: () => void;
} {
  let known: Promise<T> | undefined;
  const renew = () => {
    const asked = ask();
    known = asked;
    asked.catch(() => {
      if (known === asked) known = undefined;
    });
    return asked;
  };
  const forget = () => {
    known = undefined;
  };
  return { get: () => known ?? renew(), renew, forget };
}

/** With another cgroup manager, sets get new containers as soon as they are observed. */
function logChange(log: Log, previous: DockerEnvironment | undefined, found: DockerEnvironment) {
  if (!previous || isDeepStrictEqual(previous.cgroupManager, found.cgroupManager)) return;
  log.warn(
    { previous: previous.cgroupManager, current: found.cgroupManager },
    "Docker's cgroup driver or version has changed",
  );
}

async function findEnvironment(
  { docker, hostId, log, cgroupRoot }: DockerEnvironmentOptions,
  signal: AbortSignal,
): Promise<DockerEnvironment> {
  const [info, canPrivilege] = await Promise.all([
    readDockerInfo(docker, infoTimeoutMs, signal),
    hasAllCapabilities(),
  ]);
  if (!canPrivilege) {
    log.warn({}, "this machine restricts capabilities, so infra containers run unprivileged");
  }
  const cgroupManager = parseCgroupManager(info);
  const cgroups = createSetCgroups({ hostId, root: cgroupRoot, ...cgroupManager });
  const dockerDisk = await findBlockDevice(await findImageFolder(info));
  const hasInit = info.InitCommit?.ID !== "N/A";
  if (!hasInit) log.warn({}, "Docker has no init, so containers must reap their own processes");
  return { canPrivilege, hasInit, cgroups, cgroupManager, dockerDisk };
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
