import type Docker from "dockerode";
import { createSessions } from "../../agent/engine/open-session.ts";
import { createSetEngine, type SetEnginePorts } from "../../agent/engine/set-engine.ts";
import type { RegistryCredentials } from "../../agent/model/registry-credentials.ts";
import type { NetworkDriverPort } from "../../agent/ports/network-driver-port.ts";
import type { NetworkPort } from "../../agent/ports/network-port.ts";
import type { SessionPort } from "../../agent/ports/session-port.ts";
import type { SetPort } from "../../agent/ports/set-port.ts";
import type { VolumePort } from "../../agent/ports/volume-port.ts";
import { createCgroups } from "../../host-adapters/cgroups/create-cgroups.ts";
import { createBridgeNetwork } from "../../host-adapters/docker/bridge-network.ts";
import { createDockerContainers } from "../../host-adapters/docker/docker-containers.ts";
import { createDockerDaemon } from "../../host-adapters/docker/docker-daemon.ts";
import { createDockerImages } from "../../host-adapters/docker/docker-images.ts";
import { createDockerExecs } from "../../host-adapters/docker/docker-sessions.ts";
import { createDockerNetworks } from "../../host-adapters/docker/docker-networks.ts";
import { createSetNetworks } from "../../host-adapters/docker/set-networks.ts";
import { createDockerLogs } from "../../host-adapters/docker/docker-logs.ts";
import { createSetVolumes } from "../../host-adapters/volumes/set-volumes.ts";
import type { Log } from "../../lib/log.ts";

const busyboxPathDefault = "/bin/busybox";

export interface DockerSetsOptions {
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
  /** The processors on which sets run. Without it, all of them. */
  cpus?: readonly number[] | undefined;
  /** Deadline of a pull that makes no progress. */
  pullIdleTimeoutMs?: number;
  /** Credentials of private registries. Without them, all pulls are anonymous. */
  registryCredentials?: RegistryCredentials | undefined;
  /** Without it, the engine refuses sets with a volume. */
  volumes?: VolumePort | undefined;
  /** Without it, all sets are on Docker's bridge. */
  networkDriver?: ComposedDriver | undefined;
}

/** The network driver of this host. */
export interface ComposedDriver {
  driver: NetworkDriverPort;
  /** Its name in Docker. */
  plugin: string;
}

/**
 * Composes the set engine of this machine. It immediately builds the infra image in the background,
 * so that no set's start waits for it.
 */
export function composeSetEngine(options: DockerSetsOptions): SetPort {
  return composeSets(options).sets;
}

/** The set engine of this machine, and the sessions with the containers of its sets. */
export function composeSets(options: DockerSetsOptions): { sets: SetPort; sessions: SessionPort } {
  const ports = composeEnginePorts(options);
  Promise.all([ports.daemon.facts(), ports.images.infraImage()]).catch((error: unknown) => {
    options.log.warn({ err: error }, "Docker is not ready yet");
  });
  const execs = createDockerExecs(options.docker);
  return { sets: createSetEngine(ports), sessions: createSessions({ ...ports, execs }) };
}

function composeNetwork(options: DockerSetsOptions): NetworkPort {
  const { docker, networkDriver, log } = options;
  const bridge = createBridgeNetwork();
  if (!networkDriver) return bridge;
  const { driver, plugin } = networkDriver;
  return createSetNetworks({
    networks: createDockerNetworks(docker, plugin),
    bridge,
    busyboxPath: options.busyboxPath ?? busyboxPathDefault,
    isDriverReady: async (signal) => (await driver.status(signal)).isReady,
    log,
  });
}

/** The ports of the set engine on Docker, cgroups and volumes. */
export function composeEnginePorts(options: DockerSetsOptions): SetEnginePorts {
  const { docker, hostId, log, volumes, networkDriver } = options;
  const daemon = createDockerDaemon({ docker, log });
  const cgroups = createCgroups({
    hostId,
    root: options.cgroupRoot ?? "/sys/fs/cgroup",
    manager: {
      find: async () => (await daemon.facts()).cgroupManager,
      known: () => daemon.knownFacts()?.cgroupManager,
    },
  });
  const images = createDockerImages({
    docker,
    log,
    infraImage: options.infraImage,
    busyboxPath: options.busyboxPath ?? busyboxPathDefault,
    pullIdleTimeoutMs: options.pullIdleTimeoutMs,
    registryCredentials: options.registryCredentials,
  });
  return {
    containers: createDockerContainers({
      docker,
      daemon,
      hostId,
      log,
      startsMax: options.startsMax,
      cpus: options.cpus,
      hasNames:
        networkDriver &&
        (async (signal) => (await networkDriver.driver.status(signal)).names.state !== "off"),
      readMemoryEvents: (setId, dockerId) => cgroups.containerMemoryEvents(setId, dockerId),
    }),
    images,
    cgroups,
    daemon,
    network: composeNetwork(options),
    logs: createDockerLogs(docker),
    volumes: volumes && createSetVolumes(volumes, log),
    log,
  };
}
