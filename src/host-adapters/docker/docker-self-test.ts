import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { z } from "zod";
import { AgentError } from "../../agent/base/agent-error.ts";
import { INFRA_CONTAINER } from "../../agent/model/container-names.ts";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import { isMemoryAndQuotaLimited, setLimits } from "../../agent/model/set-limits.ts";
import type { CgroupPort } from "../../agent/ports/cgroup-port.ts";
import type { ImagePort } from "../../agent/ports/image-port.ts";
import type { DockerCapabilities, SelfTestPort } from "../../agent/ports/self-test-port.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";
import { callDocker, dockerMessage, dockerStatus } from "./call-docker.ts";
import { infraContainer } from "./container-specs.ts";
import { getDockerJson } from "./docker-api.ts";
import type { DockerDaemon } from "./docker-daemon.ts";
import { readDockerInfo } from "./docker-info.ts";
import { ignoreStatuses } from "./ignore-statuses.ts";
import { readImageStore } from "./image-folder.ts";

const callTimeoutMs = 60_000;
/** A test cleans up twice, so this is well below the deadline of a test. */
const cleanupTimeoutMsDefault = 10_000;
/** With as many containers that Docker cannot remove, a test starts no further one. */
const LEFT_CONTAINERS_MAX = 5;
/** systemd applies the limits of a slice a moment later. */
const limitsDeadlineMs = 5_000;
const limitsPollMs = 50;
/** The label of a test's container. Containers of sets have other labels, so no set has it. */
const label = "berth.self-test";
/** No set has this id, so nothing counts the test's cgroup as one of a set. */
const testId = "self_test";
const network = "bridge";
/** The infra image belongs to no tenant. */
const noTenant = "";
/** A sysctl of the container's network namespace, with the kernel's default. */
const testScript = "printf 7200 > /proc/sys/net/ipv4/tcp_keepalive_time || exit 64";
const sysctlRefusedCode = 64;
const waitAnswer = z.object({ StatusCode: z.number() });

/** A set without business containers. */
const testSet: LocalSetSpec = {
  setId: testId,
  tenant: "berth",
  service: "self-test",
  revision: 1,
  generation: 1,
  restartGeneration: 0,
  restoreVolumeId: null,
  template: {
    cpuMillis: 500,
    memoryBytes: 64 * 2 ** 20,
    rootfsBytes: 0,
    volume: null,
    sysctls: {},
    networks: [{ network: "default" }],
    containers: [],
  },
};

const testLimits = setLimits(testSet.template);

export interface DockerSelfTestOptions {
  docker: Docker;
  hostId: string;
  log: Log;
  daemon: DockerDaemon;
  images: ImagePort;
  cgroups: CgroupPort;
  cleanupTimeoutMs?: number | undefined;
}

/**
 * SelfTestPort on Docker. It runs an infra container in Docker's bridge, in a cgroup whose limits
 * it reads from the kernel, and sets a sysctl of its network. A machine that can do this runs sets.
 */
export function createDockerSelfTest(options: DockerSelfTestOptions): SelfTestPort {
  // A test that was given up may still remove its container.
  const inTurn = createConcurrencyLimit(1);
  return {
    describeDocker: (signal) => describeDocker(options.docker, signal),
    run: (signal) => inTurn(() => runTest(options, signal)),
  };
}

async function runTest(options: DockerSelfTestOptions, signal: AbortSignal): Promise<void> {
  const { daemon, cgroups } = options;
  signal.throwIfAborted();
  daemon.forgetFacts();
  // A crash of the agent may have left the container of an earlier test.
  const left = await cleanUp(options);
  try {
    await cgroups.ensure(testId, testLimits, signal);
    await waitForLimits(cgroups, signal);
    // Docker cannot remove these containers, but it has started them, so sets start too.
    if (left < LEFT_CONTAINERS_MAX) await runInfra(options, signal);
  } finally {
    await cleanUp(options);
  }
}

/**
 * Removes what tests left, even if the test was aborted. Returns the number of containers that
 * stay. A failed cleanup says nothing about sets, so it does not decide the result of a test.
 */
async function cleanUp(options: DockerSelfTestOptions): Promise<number> {
  const { cgroups, log, cleanupTimeoutMs = cleanupTimeoutMsDefault } = options;
  const signal = AbortSignal.timeout(cleanupTimeoutMs);
  const logError = (err: unknown) => log.warn({ err }, "cannot remove the rest of a self test");
  let left = 0;
  try {
    const dockerIds = await listContainers(options, signal);
    const removals = dockerIds.map((dockerId) => removeContainer(options, dockerId, signal));
    for (const removal of await Promise.allSettled(removals)) {
      if (removal.status === "fulfilled") continue;
      left++;
      logError(removal.reason);
    }
    await cgroups.remove(testId, signal);
  } catch (error) {
    logError(error);
  }
  return left;
}

async function describeDocker(docker: Docker, signal: AbortSignal): Promise<DockerCapabilities> {
  const info = await readDockerInfo(docker, callTimeoutMs, signal);
  return {
    version: info.ServerVersion ?? "unknown",
    imageStore: readImageStore(info),
    cgroupDriver: info.CgroupDriver ?? "unknown",
    cgroupVersion: info.CgroupVersion === "2" ? 2 : 1,
  };
}

/** Fails if the kernel does not apply the limits, for example because a controller is missing. */
async function waitForLimits(cgroups: CgroupPort, signal: AbortSignal): Promise<void> {
  const startedAtMs = performance.now();
  for (;;) {
    const seen = await cgroups.read(testId);
    if (isMemoryAndQuotaLimited(seen, testLimits)) return;
    if (performance.now() - startedAtMs > limitsDeadlineMs) {
      const message = `the kernel does not apply the limits of a cgroup: memory ${seen?.memoryBytes ?? "none"}, CPU quota ${seen?.cpuQuotaUs ?? "none"}. Check that the cpu and memory controllers are enabled.`;
      throw failure("cgroup-failed", message);
    }
    await delay(limitsPollMs, undefined, { signal });
  }
}

async function runInfra(
  { docker, hostId, daemon, images, cgroups }: DockerSelfTestOptions,
  signal: AbortSignal,
): Promise<void> {
  await checkBridge(docker, signal);
  const known = await images.infraImage();
  const isThere = await images.isUsable({ reference: known, tenant: noTenant }, signal);
  const image = isThere ? known : await images.restoreInfraImage();
  const { canRunPrivileged } = await daemon.facts();
  const spec = infraContainer(hostId, testSet, {
    image,
    cgroupParent: await cgroups.parentOf(testId),
    networks: [{ dockerNetwork: network }],
    canRunPrivileged,
    dataPath: undefined,
  });
  const call = { phase: "observe" as const, timeoutMs: callTimeoutMs };
  try {
    const container = await callDocker(call, signal, (abortSignal) =>
      docker.createContainer({
        ...spec,
        // Docker chooses a name, so none can be in use.
        name: undefined,
        Labels: { [label]: hostId },
        Entrypoint: ["/bin/sh", "-c", testScript, INFRA_CONTAINER],
        abortSignal,
      }),
    );
    await callDocker(call, signal, (abortSignal) => container.start({ abortSignal }));
    const ended: unknown = await callDocker(call, signal, (abortSignal) =>
      container.wait({ abortSignal }),
    );
    const { StatusCode: exitCode } = waitAnswer.parse(ended);
    if (exitCode !== 0) throw toExitFailure(exitCode);
  } catch (error) {
    throw dockerStatus(error) === undefined ? error : toStartFailure(error);
  }
}

const staticHint =
  "The BusyBox of the infra image must be linked statically (Debian: busybox-static).";

function toStartFailure(error: unknown): AgentError {
  const detail = dockerMessage(error);
  // A program that is linked dynamically fails like one that does not exist.
  const hint = /no such file or directory/i.test(detail) ? ` ${staticHint}` : "";
  return failure("infra-failed", `an infra container cannot run: ${detail}.${hint}`, error);
}

function toExitFailure(exitCode: number): AgentError {
  const message =
    exitCode === sysctlRefusedCode
      ? "an infra container cannot set a sysctl of its network"
      : `an infra container cannot run: it exited with code ${exitCode}. ${staticHint}`;
  return failure("infra-failed", message);
}

async function checkBridge(docker: Docker, signal: AbortSignal): Promise<void> {
  const call = { phase: "observe" as const, timeoutMs: callTimeoutMs };
  try {
    await callDocker(call, signal, (abortSignal) =>
      getDockerJson(docker, `/networks/${network}`, {}, abortSignal),
    );
  } catch (error) {
    if (dockerStatus(error) !== 404) throw error;
    const message = `Docker has no network "bridge". Remove "bridge": "none" from its daemon.json, and restart it.`;
    throw failure("bridge-missing", message, error);
  }
}

async function listContainers(
  { docker, hostId }: Pick<DockerSelfTestOptions, "docker" | "hostId">,
  signal: AbortSignal,
): Promise<string[]> {
  const call = { phase: "observe" as const, timeoutMs: callTimeoutMs };
  const filters = { label: [`${label}=${hostId}`] };
  const found = await callDocker(call, signal, (abortSignal) =>
    docker.listContainers({ all: true, filters, abortSignal }),
  );
  return found.map(({ Id: dockerId }) => dockerId);
}

async function removeContainer(
  { docker }: Pick<DockerSelfTestOptions, "docker">,
  dockerId: string,
  signal: AbortSignal,
): Promise<void> {
  const call = { phase: "observe" as const, timeoutMs: callTimeoutMs };
  await ignoreStatuses([404], () =>
    callDocker(call, signal, (abortSignal) =>
      docker.getContainer(dockerId).remove({ force: true, v: true, abortSignal }),
    ),
  );
}

function failure(code: string, message: string, cause?: unknown): AgentError {
  return new AgentError(code, message, { phase: "observe", temporary: true, cause });
}
