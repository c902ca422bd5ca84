import { stat } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import Docker from "dockerode";
import { Agent as HttpAgent } from "undici";
import { createDockerDisk } from "../../agent/adapters/docker/docker-disk.ts";
import { createDockerSetPort } from "../../agent/adapters/docker/docker-set-port.ts";
import { type HostIdentity, openStateFile } from "../../agent/adapters/files/state-file.ts";
import { createControlPlane, enrollHost } from "../../agent/adapters/http/control-plane.ts";
import { createLinuxMachine } from "../../agent/adapters/machine/linux-machine.ts";
import { createAgent } from "../../agent/agent.ts";
import { defaultAgentLimits } from "../../agent/agent-limits.ts";
import { callBackoffMs } from "../../agent/clock.ts";
import type { ImageCollection } from "../../agent/disk-keeper.ts";
import { ControlPlaneError, CredentialRefusedError } from "../../agent/ports/control-plane.ts";
import type { MachinePort } from "../../agent/ports/machine-port.ts";
import type { AgentSettings } from "../../config/host-agent.ts";
import { AGENT_PROTOCOL_VERSION, type Enroll } from "../../contracts/agent.ts";
import { within } from "../../lib/within.ts";
import { openHostVolumes } from "./host-volumes.ts";
import type { Running } from "./run-process.ts";

export interface HostAgentOptions {
  settings: AgentSettings;
  apiUrl: string;
  /** PEM of the authority of the API's certificate. */
  apiCa?: string | undefined;
  /** Asked for only when this host is not enrolled yet. */
  enrollToken: () => Promise<string>;
  /** What orderly ends get, of which the agent uses two thirds. */
  shutdownTimeoutMs: number;
}

const EXIT_REFUSED = 77; // EX_NOPERM of sysexits.h
const dockerInfoTimeoutMs = 3_000;
const dockerRootDefault = "/var/lib/docker";
/** One waits for news, one reports, the others carry logs. */
const connectionsMax = 64;

/** Enrols this machine unless it is, and runs its agent until the process is shut down. Gives the host's id. */
export async function startHostAgent(
  options: HostAgentOptions,
  running: Running,
): Promise<{ hostId: string }> {
  const { settings } = options;
  const { log, shutdown, version } = running;
  const apiUrl = options.apiUrl.replace(/\/+$/, "");
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
  const docker = new Docker({ socketPath: settings.BERTH_DOCKER_SOCKET });
  const dockerRoot = await findDockerRoot(docker);
  // They carry the host's id, which it has once it is enrolled.
  const late: { volumes?: Awaited<ReturnType<typeof openHostVolumes>> } = {};
  const reservePercent = reserveOf(settings);
  const machine = createLinuxMachine({ dockerRoot, volumes: () => late.volumes, reservePercent });
  const state = openStateFile(path.join(settings.BERTH_AGENT_DATA_DIR, "host-agent.json"));
  let identity = await state.loadIdentity();
  if (!identity) {
    const enroll = await describeHost(settings, machine, version);
    const target = { apiUrl, dispatcher, enrollToken: await options.enrollToken() };
    identity = await enrollUntilAnswered(target, enroll, running, stopping.signal);
    await state.saveIdentity(identity);
    log.info({ hostId: identity.hostId, name: enroll.name }, "enrolled");
  }
  const { hostId, credential } = identity;
  const agentLog = log.child({ hostId });
  const volumes = await openHostVolumes(settings, { hostId, dockerRoot, log: agentLog });
  late.volumes = volumes;
  const agent = createAgent({
    hostId,
    agentVersion: version,
    port: createDockerSetPort({
      docker,
      hostId,
      log: agentLog,
      infraImage: settings.BERTH_INFRA_IMAGE,
      busyboxPath: settings.BERTH_BUSYBOX_PATH,
      cgroupRoot: settings.BERTH_CGROUP_ROOT,
      startsMax: settings.BERTH_AGENT_STARTS_MAX,
      volumes,
    }),
    api: createControlPlane({ apiUrl, credential, dispatcher }),
    state,
    machine,
    volumes,
    disk: {
      port: createDockerDisk({ docker, hostId, dockerRoot }),
      collection: imageCollection(settings),
    },
    stopsAtRootfs: settings.BERTH_ROOTFS_EXCEEDED === "stop",
    log: agentLog,
    limits: {
      ...defaultAgentLimits,
      stepsMax: settings.BERTH_AGENT_STEPS_MAX,
      usageIntervalMs: settings.BERTH_AGENT_USAGE_INTERVAL_MS,
      stopDeadlineMs: Math.floor((options.shutdownTimeoutMs * 2) / 3),
    },
  });
  ran = agent.run(stopping.signal).catch((error: unknown) => onEnd(error, options, running));
  return { hostId };
}

function reserveOf(settings: AgentSettings) {
  return {
    cpu: settings.BERTH_AGENT_RESERVE_CPU_PERCENT,
    memory: settings.BERTH_AGENT_RESERVE_MEMORY_PERCENT,
    rootfs: settings.BERTH_AGENT_RESERVE_ROOTFS_PERCENT,
  };
}

function imageCollection(settings: AgentSettings): ImageCollection {
  return {
    highShare: settings.BERTH_IMAGE_COLLECT_HIGH_PERCENT / 100,
    lowShare: settings.BERTH_IMAGE_COLLECT_LOW_PERCENT / 100,
  };
}

/** The agent cannot go on; its containers can. */
function onEnd(error: unknown, { settings }: HostAgentOptions, running: Running): void {
  if (!(error instanceof CredentialRefusedError)) {
    running.log.error({ err: error }, "agent failed");
    running.stop(1);
    return;
  }
  running.log.error({ err: error }, "credential refused");
  process.stderr.write(
    `The API does not know this host any more. Its containers are left as they are. To enrol it anew, move the state in ${settings.BERTH_AGENT_DATA_DIR} away and give an enroll token.\n`,
  );
  running.stop(EXIT_REFUSED);
}

/** Goes on while the API is away; what it answers in earnest is final. */
async function enrollUntilAnswered(
  target: Parameters<typeof enrollHost>[0],
  enroll: Enroll,
  { log }: Running,
  signal: AbortSignal,
): Promise<HostIdentity> {
  for (let failuresInRow = 1; ; failuresInRow++) {
    try {
      return await enrollHost(target, enroll, signal);
    } catch (error) {
      const isAway =
        error instanceof ControlPlaneError && (error.status === undefined || error.status >= 500);
      if (!isAway || signal.aborted) throw error;
      log.warn({ err: error, failuresInRow }, "not enrolled yet");
      await pause(callBackoffMs(failuresInRow, Math.random()), undefined, { signal });
    }
  }
}

async function describeHost(
  settings: AgentSettings,
  machine: MachinePort,
  version: string,
): Promise<Enroll> {
  const { allocatable } = await machine.measure();
  return {
    protocol: AGENT_PROTOCOL_VERSION,
    name: settings.BERTH_AGENT_NAME ?? machineName(),
    zone: settings.BERTH_AGENT_ZONE,
    rack: settings.BERTH_AGENT_RACK,
    labels: settings.BERTH_AGENT_LABELS,
    allocatable,
    agentVersion: version,
  };
}

/** The first part of the machine's host name, as far as it is one that a host may have. */
function machineName(): string {
  const [first = ""] = hostname().toLowerCase().split(".");
  const name = first.replace(/[^a-z0-9-]+/g, "-").slice(0, 63);
  return name.replace(/^-+|-+$/g, "") || "host";
}

/** Where Docker keeps images and containers; while it cannot be asked, where it does so by default. */
async function findDockerRoot(docker: Docker): Promise<string> {
  const asked = docker.info().then(
    (info: { DockerRootDir?: string }) => info.DockerRootDir,
    () => undefined,
  );
  const found = (await within(asked, dockerInfoTimeoutMs, undefined)) ?? dockerRootDefault;
  const isThere = await stat(found).then(
    () => true,
    () => false,
  );
  return isThere ? found : "/";
}
