import type Docker from "dockerode";
import type { Log } from "../../lib/log.ts";
import type { RegistryCredentials } from "../../agent/model/registry-credentials.ts";
import type { SetPort } from "../../agent/ports/set-port.ts";
import type { VolumePort } from "../../agent/ports/volume-port.ts";
import { createSetVolumes } from "../volumes/set-volumes.ts";
import { callDocker, settleAll } from "./call-docker.ts";
import { createFairLimit } from "../../lib/async/fair-limit.ts";
import { createContainerDetailsCache } from "./container-details.ts";
import { createContainerIndex } from "./container-index.ts";
import { isInfra } from "./container-labels.ts";
import { containerLogs } from "./container-logs.ts";
import { imagesAnswer, parseAnswer } from "./docker-answers.ts";
import type { DockerContext, DockerEnvironment } from "./docker-context.ts";
import { createDockerEnvironment } from "./docker-environment.ts";
import { listContainers } from "./list-containers.ts";
import { observeSet, observeSets } from "./observe-sets.ts";
import { prepareSet } from "./prepare-set.ts";
import { probeContainer } from "./probe-container.ts";
import { createPullImage } from "./pull-image.ts";
import { createMarkingPull, isMark } from "./pulled-images.ts";
import { resizeSet } from "./resize-set.ts";
import { pullImages } from "./set-images.ts";
import { startContainers } from "./start-containers.ts";
import { removeContainers, stopContainer, stopInOrder } from "./stop-containers.ts";
import { watchEvents } from "./watch-events.ts";

export interface DockerSetPortOptions {
  docker: Docker;
  hostId: string;
  log: Log;
  /**
   * Reference of the infra image. Without it, the adapter builds one from the BusyBox at
   * `busyboxPath`.
   */
  infraImage?: string | undefined;
  /** A statically linked BusyBox. */
  busyboxPath?: string;
  /** Mount point of the cgroup file systems. */
  cgroupRoot?: string;
  /** Concurrent container starts on this host; further starts wait. */
  startsMax?: number;
  /** Deadline of a pull that makes no progress. */
  pullIdleTimeoutMs?: number;
  /** Credentials of private registries. Without them, all pulls are anonymous. */
  registryCredentials?: RegistryCredentials | undefined;
  /** Without it, the adapter refuses sets with a volume. */
  volumes?: VolumePort | undefined;
}

const imagesTimeoutMs = 20_000;
const startsMaxDefault = 8;
/** A start that takes longer is stuck, and does not delay the starts of other tenants. */
const startSlowMs = 10_000;
/** Stuck starts without a slot, and starts of one tenant, as a multiple of `startsMax`. */
const stuckStartsFactor = 8;

/**
 * Sets on a real Docker daemon, API 1.41 and newer. It stores nothing essential: the containers'
 * labels have their identity and owner. It immediately builds the infra image in the background, so
 * that no set's start waits for it.
 */
export function createDockerSetPort(options: DockerSetPortOptions): SetPort {
  const { docker, hostId, log } = options;
  const pullImage = createPullImage(docker, options);
  const { environment, forgetEnvironment, knownEnvironment, infraImage, restoreInfraImage } =
    createDockerEnvironment({
      docker,
      hostId,
      log,
      pullImage,
      infraImage: options.infraImage,
      busyboxPath: options.busyboxPath ?? "/bin/busybox",
      cgroupRoot: options.cgroupRoot ?? "/sys/fs/cgroup",
    });
  const startsMax = options.startsMax ?? startsMaxDefault;
  const context: DockerContext = {
    docker,
    hostId,
    log,
    environment,
    forgetEnvironment,
    infraImage,
    restoreInfraImage,
    pullImage: createMarkingPull(docker, pullImage, log),
    details: createContainerDetailsCache(docker, async ({ setId, dockerId }) => {
      const { cgroups } = await environment();
      return cgroups.containerMemoryEvents(setId, dockerId);
    }),
    volumes: options.volumes && createSetVolumes(options.volumes, log),
    index: createContainerIndex(),
    startLimit: createFairLimit({
      callsMax: startsMax,
      slowMs: startSlowMs,
      slowMax: startsMax * stuckStartsFactor,
      callsPerKeyMax: startsMax * stuckStartsFactor,
    }),
  };
  Promise.all([environment(), infraImage()]).catch((error: unknown) => {
    log.warn({ err: error }, "Docker is not ready yet");
  });
  return {
    observe: (signal, onUnseen) => observeSets(context, signal, onUnseen),
    observeSet: (setId, signal) => observeSet(context, setId, signal),
    prepare: (set, signal, { completed = [] } = {}) =>
      prepareSet(context, { set, completed }, signal),
    pullImages: (set, signal, { completed = [] } = {}) =>
      pullImages(context, { set, completed }, signal),
    resize: (set, signal) => resizeSet(context, set, signal),
    start: (set, containers, signal) => startContainers(context, set, containers, signal),
    async stop(set, names, signal) {
      const listed = await listContainers(context, { setId: set.setId, phase: "stop" }, signal);
      const wanted = listed.filter(({ name }) => names.includes(name));
      await settleAll(
        wanted.map(({ dockerId, name }) => {
          const template = set.template.containers.find((container) => container.name === name);
          return stopContainer(context, dockerId, template?.options.stopTimeoutSeconds, signal);
        }),
      );
    },
    remove: (setId, signal) => removeSet(context, setId, signal),
    async stopAll(setId, signal) {
      await stopInOrder(
        context,
        await listContainers(context, { setId, phase: "stop" }, signal),
        signal,
      );
    },
    probe: (set, target, signal) => probeContainer(context, set, target, signal),
    logs: (setId, container, range, signal) =>
      containerLogs(context, { setId, container }, range, signal),
    watch: (onChange, signal, onOpen) => watchEvents(context, { onChange, onOpen }, signal),
    memoryUsage: () => readMemoryUsage(knownEnvironment()),
    ping: (timeoutMs) => pingDaemon(docker, timeoutMs),
    images: (signal) => listImages(docker, signal),
  };
}

async function removeSet(
  context: DockerContext,
  setId: string,
  signal: AbortSignal,
): Promise<void> {
  const { cgroups } = await context.environment();
  const listed = await listContainers(context, { setId, phase: "remove" }, signal);
  const business = listed.filter((container) => !isInfra(container));
  await removeContainers(context, business, { phase: "remove" }, signal);
  await removeContainers(context, listed.filter(isInfra), { phase: "remove" }, signal);
  const trashed = context.volumes?.trash(setId, signal);
  await settleAll([cgroups.remove(setId, signal), Promise.resolve(trashed)]);
}

/** Returns nothing until Docker has reported its cgroup driver, and does not wait for that. */
async function readMemoryUsage(
  environment: DockerEnvironment | undefined,
): Promise<Record<string, number>> {
  if (!environment) return {};
  const { cgroups } = environment;
  const setIds = await cgroups.list();
  const used = await Promise.all(setIds.map((setId) => cgroups.memoryUsage(setId)));
  return Object.assign({}, ...used);
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

async function listImages(docker: Docker, signal: AbortSignal): Promise<string[]> {
  const answer = await callDocker(
    { phase: "image", timeoutMs: imagesTimeoutMs },
    signal,
    (abortSignal) => docker.listImages({ abortSignal }),
  );
  const call = { call: "GET /images/json", phase: "image" as const };
  const references = parseAnswer(imagesAnswer, answer, call).flatMap(({ RepoTags }) => RepoTags);
  return [...new Set(references)]
    .filter((name) => name !== "<none>:<none>" && !isMark(name))
    .sort();
}
