import path from "node:path";
import type Docker from "dockerode";
import { Agent as HttpAgent } from "undici";
import { createDockerDisk } from "../../host-adapters/docker/docker-disk.ts";
import { createDockerRoot, type DockerRoot } from "../../host-adapters/docker/docker-root.ts";
import { openDocker } from "../../host-adapters/docker/open-docker.ts";
import { composeSets } from "./set-engine.ts";
import {
  type HostIdentity,
  openStateFile,
  type StateFile,
} from "../../host-adapters/state-file/state-file.ts";
import {
  createControlPlane,
  createHostNetworks,
} from "../../host-adapters/control-plane-client/control-plane.ts";
import { createSessionDialer } from "../../host-adapters/control-plane-client/dial-session.ts";
import { HostCredentials } from "../../host-adapters/control-plane-client/host-credentials.ts";
import { createNetworkDriverClient } from "../../host-adapters/network-driver-client/network-driver-client.ts";
import { readAgentIdentity } from "../../host-adapters/machine/agent-identity.ts";
import { createHostAddress } from "../../host-adapters/machine/host-address.ts";
import { readSetCpus } from "../../host-adapters/machine/set-cpus.ts";
import { findTunnelAddress } from "../../host-adapters/machine/tunnel-address.ts";
import { isMachineStopping } from "../../host-adapters/machine/machine-shutdown.ts";
import { type HostLimit, readHostLimits } from "../../host-adapters/machine/host-limits.ts";
import {
  createLinuxMachine,
  type MachineVolumes,
} from "../../host-adapters/machine/linux-machine.ts";
import type { AgentOptions } from "../../agent/loop/agent-options.ts";
import { createAgent } from "../../agent/loop/agent.ts";
import { defaultAgentLimits } from "../../agent/base/agent-limits.ts";
import { systemClock } from "../../host-adapters/machine/system-clock.ts";
import type { ImageGcThresholds } from "../../agent/housekeeping/image-gc.ts";
import type { ControlPlane } from "../../agent/ports/control-plane.ts";
import type { HostNetworksPort } from "../../agent/ports/host-networks-port.ts";
import type { DialSession } from "../../agent/ports/session-port.ts";
import type { MachinePort } from "../../agent/ports/machine-port.ts";
import type { VolumePort } from "../../agent/ports/volume-port.ts";
import { RegistryCredentials } from "../../agent/model/registry-credentials.ts";
import { runAdmitted } from "../../agent/loop/run-admitted.ts";
import type { AgentSettings } from "../../config/host-agent.ts";
import type { AgentIdentity } from "../../contracts/agent-protocol/agent-identity.ts";
import { withTimeout } from "../../lib/async/with-timeout.ts";
import type { Log } from "../../lib/log.ts";
import { createSocketDialer } from "./dial-web-socket.ts";
import { type HostVolumes, openHostVolumes } from "./host-volumes.ts";
import { bindMachine, obtainIdentity } from "./host-identity.ts";
import { lockFolder } from "./lock-folder.ts";
import { composePreviousHosts } from "./previous-hosts.ts";
import { composeSelfTest } from "./self-test.ts";
import type { ProcessContext } from "./run-process.ts";

export interface HostAgentOptions {
  settings: AgentSettings;
  apiUrl: string;
  /** PEM of the certificate authority of the API. */
  apiCa?: string | undefined;
  /** Called only if this host is not enrolled yet. */
  enrollToken: () => Promise<string>;
  /** The shutdown deadline, of which the agent uses two thirds. */
  shutdownTimeoutMs: number;
}

/** If the daemon does not report its folder in this time, the running agent queries it again. */
const dockerRootTimeoutMs = 3_000;
/** Two for the long polls, one for reports, the rest for logs. */
const connectionsMax = 64;

/**
 * Enrolls this machine if necessary, and runs its agent until the shutdown. Returns the host's id.
 */
export async function startHostAgent(
  options: HostAgentOptions,
  context: ProcessContext,
): Promise<{ hostId: string }> {
  const { settings } = options;
  const { log, shutdown, version } = context;
  const apiUrl = options.apiUrl.replace(/\/+$/, "");
  // Two agents with one identity would remove and create the same containers (I3).
  const unlock = await lockFolder(settings.BERTH_AGENT_DATA_DIR, "host-agent.lock");
  shutdown.add("lock of the data folder", unlock);
  const dispatcher = new HttpAgent({
    connections: connectionsMax,
    ...(options.apiCa === undefined ? {} : { connect: { ca: options.apiCa } }),
  });
  shutdown.add("connections of the agent", () => dispatcher.destroy());
  const stopping = new AbortController();
  let ran: Promise<void> = Promise.resolve();
  shutdown.add("host agent", () => {
    stopping.abort(new Error("the agent stops"));
    return ran;
  });
  const docker = openDocker(settings.BERTH_DOCKER_SOCKET);
  const root = await openDockerRoot(docker, log, stopping.signal);
  // Volumes need the host's id, which exists only after the enrollment.
  const late: { volumes?: HostVolumes | undefined } = {};
  const limits = () => readHostLimits({ cgroupRoot: settings.BERTH_CGROUP_ROOT });
  const machine = createLinuxMachine({
    dockerRoot: () => root.folder(),
    volumes: () => late.volumes && volumesOnMachine(late.volumes, root),
    limits,
    reservePercent: toReserve(settings),
    switchCpus: settings.BERTH_NETWORK_PMD_CPUS,
  });
  logLowLimits(limits(), log);
  const state = openStateFile(path.join(settings.BERTH_AGENT_DATA_DIR, "host-agent.json"));
  const own = await readAgentIdentity(settings.BERTH_AGENT_MACHINE_ID_FILE);
  const identity = await obtainIdentity(
    { ...options, apiUrl, dispatcher, machine, state, machineId: own.machineId },
    context,
    stopping.signal,
  );
  const { hostId } = identity;
  const agentLog = log.child({ hostId });
  late.volumes = await openHostVolumes(settings, { hostId, log: agentLog });
  const credentials = await loadCredentials(state, agentLog, stopping.signal);
  const api = createControlPlane({ apiUrl, credentials, dispatcher, identity: own });
  const dialSocket = createSocketDialer({ ca: options.apiCa });
  const parts = {
    networks: createHostNetworks({ apiUrl, credentials, dispatcher }),
    dial: createSessionDialer({ apiUrl, credentials, dialSocket }),
    hostId,
    api,
    state,
    machine,
    log: agentLog,
    volumes: late.volumes?.port,
  };
  const agentOptions = createAgentOptions(options, context, { ...parts, docker, root });
  const admitted = {
    createAgent: () => createAgent(agentOptions),
    api,
    state,
    agentVersion: version,
    clock: systemClock,
    log: agentLog,
    isCopied: isCopied(identity, own),
    onAccepted: () => bindMachine(state, own.machineId, agentLog),
    limits: defaultAgentLimits,
    isMachineStopping,
    random: Math.random,
  };
  ran = runAdmitted(admitted, stopping.signal)
    .catch((error: unknown) => endProcess(error, context))
    // The next agent must not read the state file while a rotation writes it.
    .finally(() => credentials.settled());
  return { hostId };
}

/** Waits a short time until the daemon has reported its folder. */
async function openDockerRoot(docker: Docker, log: Log, signal: AbortSignal): Promise<DockerRoot> {
  const root = await createDockerRoot(docker);
  const isRootKnown = root.find(signal).catch((error: unknown) => {
    log.warn({ err: error }, "Docker has not reported the folder of its images and containers");
  });
  await withTimeout(isRootKnown, dockerRootTimeoutMs, undefined);
  return root;
}

async function loadCredentials(
  state: StateFile,
  log: Log,
  signal: AbortSignal,
): Promise<HostCredentials> {
  const stored = await state.loadCredentials();
  return new HostCredentials({ stored, store: state, signal, log });
}

/** A host of this many sets is usual in production. */
const usualSets = 500;

/** Warns before the host has so many sets that containers fail. */
function logLowLimits(limits: readonly HostLimit[], log: Log): void {
  const low = limits.filter(({ setsMax }) => setsMax < usualSets);
  for (const limit of low) log.warn(limit, "a limit of the machine admits few sets");
}

/** True if another machine wrote the state. */
function isCopied(stored: HostIdentity, own: AgentIdentity): boolean {
  return (
    stored.machineId !== undefined &&
    own.machineId !== undefined &&
    stored.machineId !== own.machineId
  );
}

/** The ports of the agent on this machine. */
interface AgentParts {
  hostId: string;
  api: ControlPlane;
  state: StateFile;
  machine: MachinePort;
  volumes: VolumePort | undefined;
  networks: HostNetworksPort;
  dial: DialSession;
  docker: Docker;
  root: DockerRoot;
  log: Log;
}

function createAgentOptions(
  { settings, apiUrl, shutdownTimeoutMs }: HostAgentOptions,
  { version }: ProcessContext,
  { docker, root, networks, dial, ...parts }: AgentParts,
): AgentOptions {
  const { hostId, log, volumes } = parts;
  const registryCredentials = new RegistryCredentials();
  const networkDriver = createNetworkDriverClient(settings.BERTH_NETWORK_CONTROL_SOCKET);
  const { sets, sessions } = composeSets({
    docker,
    hostId,
    log,
    infraImage: settings.BERTH_INFRA_IMAGE,
    busyboxPath: settings.BERTH_BUSYBOX_PATH,
    cgroupRoot: settings.BERTH_CGROUP_ROOT,
    startsMax: settings.BERTH_AGENT_STARTS_MAX,
    cpus: readSetCpus(settings.BERTH_NETWORK_PMD_CPUS),
    volumes,
    registryCredentials,
    networkDriver: { driver: networkDriver, plugin: settings.BERTH_NETWORK_PLUGIN },
  });
  return {
    ...parts,
    networks: {
      driver: networkDriver,
      hostNetworks: networks,
      findTunnelAddress: async () =>
        settings.BERTH_TUNNEL_ADDRESS ?? (await findTunnelAddress(apiUrl)),
    },
    registryCredentials,
    hostAddress: createHostAddress(settings.BERTH_HOST_ADDRESS),
    agentVersion: version,
    clock: systemClock,
    random: Math.random,
    port: sets,
    sessions: { port: sessions, dial },
    selfTest: {
      mode: settings.BERTH_AGENT_SELF_TEST,
      port: composeSelfTest({
        docker,
        hostId,
        log,
        infraImage: settings.BERTH_INFRA_IMAGE,
        busyboxPath: settings.BERTH_BUSYBOX_PATH,
        cgroupRoot: settings.BERTH_CGROUP_ROOT,
        fileSystem: volumes && settings.BERTH_VOLUME_FILE_SYSTEM,
      }),
    },
    disk: {
      port: createDockerDisk({ docker, hostId, root, log }),
      thresholds: imageGcThresholds(settings),
    },
    previousHosts: composePreviousHosts(settings, { docker, hostId, log }),
    stopsAtRootfs: settings.BERTH_ROOTFS_EXCEEDED === "stop",
    limits: {
      ...defaultAgentLimits,
      stepsMax: settings.BERTH_AGENT_STEPS_MAX,
      usageIntervalMs: settings.BERTH_AGENT_USAGE_INTERVAL_MS,
      stopDeadlineMs: Math.floor((shutdownTimeoutMs * 2) / 3),
    },
  };
}

function volumesOnMachine({ port, device }: HostVolumes, root: DockerRoot): MachineVolumes {
  return { capacity: (signal) => port.capacity(signal), areOnDockerRoot: device === root.device() };
}

function toReserve(settings: AgentSettings) {
  return {
    cpu: settings.BERTH_AGENT_RESERVE_CPU_PERCENT,
    memory: settings.BERTH_AGENT_RESERVE_MEMORY_PERCENT,
    rootfs: settings.BERTH_AGENT_RESERVE_ROOTFS_PERCENT,
  };
}

function imageGcThresholds(settings: AgentSettings): ImageGcThresholds {
  return {
    highShare: settings.BERTH_IMAGE_COLLECT_HIGH_PERCENT / 100,
    lowShare: settings.BERTH_IMAGE_COLLECT_LOW_PERCENT / 100,
  };
}

/** Ends the process after a fault of the agent. Its containers continue to run. */
function endProcess(error: unknown, context: ProcessContext): void {
  context.log.error({ err: error }, "agent failed");
  context.stop(1);
}
