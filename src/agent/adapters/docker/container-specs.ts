import type Docker from "dockerode";
import type { ContainerTemplate } from "../../../contracts/api/set-template.ts";
import { INFRA_CONTAINER } from "../../container-names.ts";
import type { Limits, LocalSetSpec } from "../../ports/set-port.ts";
import { containerLimits, CPU_PERIOD_US } from "../../set-limits.ts";
import { dockerName, labelsFor } from "./container-labels.ts";

/**
 * The containers of a set in Docker's terms.
 *
 * Docker's own restart policy is "no" for all of them. It would bring containers back without regard for order (a
 * business container cannot start before the infra container whose network it joins), with a backoff nobody sees, and
 * after a reboot of a host whose sets were replaced elsewhere meanwhile it would start a second copy before the agent
 * could ask. The agent restarts what died while it was away as soon as it is back.
 */
const restartPolicy = { Name: "no" };

/** 20 MiB of output a container are kept; the rest is whoever ships logs. */
const logConfig = { Type: "json-file", Config: { "max-size": "10m", "max-file": "2" } };
const noHealthcheck = { Test: ["NONE"] };
const infraPidsMax = 64;
/**
 * The infra container may do anything on its host, so nothing that a tenant wrote may lie where it looks for a program or a library:
 * the volume is at a place of Berth's own, wherever the other containers have it.
 */
const infraVolumePath = "/berth-volume";
/** The kernel takes anything else of the set first when the set runs out of memory. */
const infraOomScore = -999;

/**
 * Applies `key=value` sysctls, says "up", and stays until it is told to go. PID 1 has no default action for signals,
 * hence the trap: without it every stop would take the whole stop timeout.
 */
const infraScript = `
trap 'exit 0' TERM INT
for entry; do
  path=$(echo "\${entry%%=*}" | sed 's|[.]|/|g')
  printf %s "\${entry#*=}" > "/proc/sys/$path" || { echo "sysctl \${entry%%=*} was refused"; exit 64; }
done
echo up
sleep 2147483647 &
wait
`;
/** The line of the infra container's output that follows its last sysctl. */
export const infraReadyLine = "up";

/** Limits in Docker's terms. */
export function dockerLimits(limits: Limits) {
  const { memoryBytes, reservationBytes } = limits;
  return {
    ...dockerLimitsButMemory(limits),
    Memory: memoryBytes,
    /** Memory and swap together: no swap. */
    MemorySwap: memoryBytes,
    MemoryReservation: reservationBytes,
  };
}

export function dockerLimitsButMemory({ cpuQuotaUs, cpuShares, pidsMax }: Limits) {
  return {
    CpuPeriod: CPU_PERIOD_US,
    CpuQuota: cpuQuotaUs,
    CpuShares: cpuShares,
    PidsLimit: pidsMax,
  };
}

export function infraContainer(
  hostId: string,
  set: LocalSetSpec,
  options: {
    image: string;
    cgroupParent: string;
    canPrivilege: boolean;
    /** Where the volume's data is on the host; undefined: there is none. */
    dataPath: string | undefined;
  },
): Docker.ContainerCreateOptions {
  const sysctls = Object.entries(set.template.sysctls).map(([key, value]) => `${key}=${value}`);
  return {
    name: dockerName(set.setId, INFRA_CONTAINER),
    Image: options.image,
    Hostname: set.setId.replaceAll("_", "-"),
    Entrypoint: ["/bin/sh", "-c", infraScript, INFRA_CONTAINER],
    Cmd: sysctls,
    Labels: labelsFor(hostId, set, { name: INFRA_CONTAINER, index: -1 }),
    Healthcheck: noHealthcheck,
    StopSignal: "SIGTERM",
    StopTimeout: 2,
    HostConfig: {
      ...privilege(options.canPrivilege),
      NetworkMode: "bridge",
      IpcMode: "shareable",
      CgroupParent: options.cgroupParent,
      OomScoreAdj: options.canPrivilege ? infraOomScore : 0,
      Binds: options.dataPath === undefined ? [] : [`${options.dataPath}:${infraVolumePath}:ro`],
      PidsLimit: infraPidsMax,
      RestartPolicy: restartPolicy,
      LogConfig: logConfig,
    },
  };
}

/**
 * A business container, joined to the network and IPC of the infra container, which has to exist but need not run yet.
 * Its processes gain no privileges by set-uid programs; capabilities are Docker's defaults.
 */
export function businessContainer(
  hostId: string,
  set: LocalSetSpec,
  container: ContainerTemplate,
  options: { infraId: string; cgroupParent: string; dataPath: string | undefined },
): Docker.ContainerCreateOptions {
  const { volume } = set.template;
  const hasVolume = volume !== null && options.dataPath !== undefined;
  const { name, image, index, options: wanted } = container;
  return {
    name: dockerName(set.setId, name),
    Image: image,
    Env: Object.entries(wanted.env).map(([key, value]) => `${key}=${value}`),
    ...(wanted.command ? { Entrypoint: wanted.command } : {}),
    ...(wanted.args ? { Cmd: wanted.args } : {}),
    ...(wanted.workingDir === undefined ? {} : { WorkingDir: wanted.workingDir }),
    ...(wanted.user === undefined ? {} : { User: wanted.user }),
    Labels: labelsFor(hostId, set, { name, index }),
    Healthcheck: noHealthcheck,
    StopSignal: wanted.stopSignal,
    StopTimeout: wanted.stopTimeoutSeconds,
    HostConfig: {
      ...dockerLimits(containerLimits(set.template, wanted)),
      Privileged: false,
      SecurityOpt: ["no-new-privileges"],
      NetworkMode: `container:${options.infraId}`,
      IpcMode: `container:${options.infraId}`,
      CgroupParent: options.cgroupParent,
      Binds: hasVolume ? [`${options.dataPath}:${volume.mountPath}`] : [],
      RestartPolicy: restartPolicy,
      LogConfig: logConfig,
    },
  };
}

/**
 * Privileged where the machine allows it. Where the capability bounding set is restricted (nested containers), Docker
 * cannot start a privileged container at all; a writable /proc/sys and NET_ADMIN are what the infra container needs.
 */
function privilege(canPrivilege: boolean): Docker.HostConfig {
  if (canPrivilege) return { Privileged: true };
  return { Privileged: false, CapAdd: ["NET_ADMIN"], MaskedPaths: [], ReadonlyPaths: [] };
}
