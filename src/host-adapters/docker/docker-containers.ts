import type Docker from "dockerode";
import type { MemoryEvents } from "../../agent/ports/cgroup-port.ts";
import type { ContainerPort } from "../../agent/ports/container-port.ts";
import { createFairLimit } from "../../lib/async/fair-limit.ts";
import type { Log } from "../../lib/log.ts";
import { createContainerDetailsCache } from "./container-details.ts";
import { createContainerIndex } from "./container-index.ts";
import { connectInfra } from "./connect-infra.ts";
import { createBusiness, createInfra } from "./create-container.ts";
import type { DockerContext } from "./docker-context.ts";
import type { DockerDaemon } from "./docker-daemon.ts";
import { probeByExec } from "./exec-probe.ts";
import { listContainers } from "./list-containers.ts";
import { removeContainer } from "./remove-container.ts";
import { startContainer } from "./start-container.ts";
import { startInfra } from "./start-infra.ts";
import { stopContainer } from "./stop-container.ts";
import { updateLimits } from "./update-limits.ts";
import { watchEvents } from "./watch-events.ts";

export interface DockerContainersOptions {
  docker: Docker;
  daemon: DockerDaemon;
  hostId: string;
  log: Log;
  /** Concurrent container starts on this host; further starts wait. */
  startsMax?: number | undefined;
  /** Whether the host has a name server for sets of networks. Without the function, it has none. */
  hasNames?: ((signal: AbortSignal) => Promise<boolean>) | undefined;
  /** The processors on which containers run. Without it, all of them. */
  cpus?: readonly number[] | undefined;
  /** Reads the kernel's counters of a running container (CgroupPort.containerMemoryEvents). */
  readMemoryEvents: (setId: string, dockerId: string) => Promise<MemoryEvents | undefined>;
}

const startsMaxDefault = 8;
/** A start that takes longer is stuck, and does not delay the starts of other tenants. */
const startSlowMs = 10_000;
/** Stuck starts without a slot, and starts of one tenant, as a multiple of `startsMax`. */
const stuckStartsFactor = 8;

/** ContainerPort on Docker, API 1.41 and newer. */
export function createDockerContainers(options: DockerContainersOptions): ContainerPort {
  const { docker, daemon, hostId, log, readMemoryEvents } = options;
  const startsMax = options.startsMax ?? startsMaxDefault;
  const context: DockerContext = {
    docker,
    hostId,
    log,
    facts: () => daemon.facts(),
    forgetFacts: () => daemon.forgetFacts(),
    hasNames: options.hasNames ?? (async () => false),
    cpus: options.cpus,
    details: createContainerDetailsCache(docker, ({ setId, dockerId }) =>
      readMemoryEvents(setId, dockerId),
    ),
    index: createContainerIndex(),
    startLimit: createFairLimit({
      callsMax: startsMax,
      slowMs: startSlowMs,
      slowMax: startsMax * stuckStartsFactor,
      callsPerKeyMax: startsMax * stuckStartsFactor,
    }),
  };
  return {
    list: (filter, signal) => listContainers(context, filter, signal),
    inspect: (container, signal) => context.details.get(container, signal),
    inspectNow: (container, signal) => {
      context.details.forget(container.dockerId);
      return context.details.get(container, signal);
    },
    createInfra: (set, infra, signal) => createInfra(context, set, infra, signal),
    connectInfra: (set, infra, signal) => connectInfra(context, set, infra, signal),
    createBusiness: (set, name, business, signal) =>
      createBusiness(context, set, { name, ...business }, signal),
    startInfra: (set, infraId, signal) => startInfra(context, set, infraId, signal),
    start: (container, signal) => startContainer(context, container, signal),
    stop: (dockerId, { timeoutSeconds }, signal) =>
      stopContainer(context, dockerId, timeoutSeconds, signal),
    remove: (container, phase, signal) => removeContainer(context, container, phase, signal),
    updateLimits: (container, limits, { includesMemory }, signal) =>
      updateLimits(context, { container, limits, includesMemory }, signal),
    probe: (container, check, signal) => probeByExec(context, container, check, signal),
    watch: (listener, signal) => watchEvents(context, listener, signal),
  };
}
