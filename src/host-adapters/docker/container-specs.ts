import type Docker from "dockerode";
import type { ContainerTemplate } from "../../contracts/api/set-template.ts";
import { addQueryGateway } from "../../contracts/network-driver/query-address.ts";
import { NAMES_DOMAIN } from "../../contracts/network-driver/names-domain.ts";
import { INFRA_CONTAINER } from "../../agent/model/container-names.ts";
import type { Limits, LocalSetSpec } from "../../agent/model/local-set.ts";
import { containerLimits, CPU_PERIOD_US } from "../../agent/model/set-limits.ts";
import { stopSignalSource } from "../../agent/model/outdated.ts";
import type { JoinedNetworks } from "../../agent/ports/network-port.ts";
import { dockerName, labels, labelsFor } from "./container-labels.ts";
import { joinNetwork } from "./connect-infra.ts";

/**
 * The containers of a set in Docker's terms.
 *
 * Docker's restart policy is "no" for all of them, for three reasons:
 *
 * - It ignores the order: a business container cannot start before its infra container.
 * - Its backoff is invisible to Berth.
 * - After a reboot it could start a second copy of a set that was replaced elsewhere.
 *
 * The agent restarts exited containers as soon as it runs.
 */
const restartPolicy = { Name: "no" };

/** Docker retains 20 MiB of output per container. A log shipper may store more. */
const logConfig = { Type: "json-file", Config: { "max-size": "10m", "max-file": "2" } };
const sharedMemoryBytesMin = 64 * 2 ** 20;
const noHealthcheck = { Test: ["NONE"] };
const infraPidsMax = 64;
/**
 * Mount path of the volume in the infra container. That container is privileged, so tenant data
 * must not be in a path where it searches programs or libraries.
 */
const infraVolumePath = "/berth-volume";
/** If the set runs out of memory, the kernel kills every other process first. */
const infraOomScore = -999;

/** Applies `key=value` sysctls. */
const sysctlScript = `for entry; do
  path=$(echo "\${entry%%=*}" | sed 's|[.]|/|g')
  printf %s "\${entry#*=}" > "/proc/sys/$path" || { echo "sysctl \${entry%%=*} was refused"; exit 64; }
done`;
/** The argument of the `sleep` that shows that infra has applied its sysctls. */
export const infraIdleSeconds = "2147483647";
/**
 * Applies the sysctls, prints "up", and waits for SIGTERM. PID 1 has no default action for signals,
 * so without the trap every stop would take the whole stop timeout.
 */
const infraScript = `
trap 'exit 0' TERM INT
${sysctlScript}
echo up
sleep ${infraIdleSeconds} &
wait
`;
/**
 * The line that the infra container prints after its last sysctl. Agents of earlier releases wait
 * for it.
 */
export const infraReadyLine = "up";

/** Converts limits to Docker's terms. */
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
    networks: JoinedNetworks;
    canRunPrivileged: boolean;
    /** The host has a name server for sets of networks. */
    hasNames?: boolean;
    /** The host's path of the volume's data; undefined without a volume. */
    dataPath: string | undefined;
  },
): Docker.ContainerCreateOptions {
  const sysctls = Object.entries(set.template.sysctls).map(([key, value]) => `${key}=${value}`);
  const [first] = options.networks;
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
    ...joinNetwork(hostId, set, first),
    ...exposePorts(set),
    HostConfig: {
      ...privilege(options.canRunPrivileged),
      NetworkMode: first.dockerNetwork,
      PortBindings: bindPorts(set),
      IpcMode: "shareable",
      ...(options.hasNames ? resolveNames(options.networks) : {}),
      ShmSize: sharedMemoryBytes(set.template),
      ...(set.template.extraHosts ? { ExtraHosts: formatHosts(set.template.extraHosts) } : {}),
      CgroupParent: options.cgroupParent,
      OomScoreAdj: options.canRunPrivileged ? infraOomScore : 0,
      Binds: options.dataPath === undefined ? [] : [`${options.dataPath}:${infraVolumePath}:ro`],
      PidsLimit: infraPidsMax,
      RestartPolicy: restartPolicy,
      LogConfig: logConfig,
    },
  };
}

/**
 * A business container that joins the network and IPC of the infra container, which must exist but
 * need not run yet. Its processes gain no privileges from set-uid programs, and have Docker's
 * default capabilities without NET_RAW. All sets share a bridge, and with NET_RAW a container could
 * take over the addresses of others.
 */
export function businessContainer(
  hostId: string,
  set: LocalSetSpec,
  container: ContainerTemplate,
  options: {
    infraId: string;
    cgroupParent: string;
    dataPath: string | undefined;
    /** Docker has an init that can be process 1. */
    hasInit: boolean;
  },
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
    Labels: {
      ...labelsFor(hostId, set, { name, index }),
      [labels.stopSignal]: stopSignalSource(container),
    },
    Healthcheck: noHealthcheck,
    ...(wanted.stopSignal === undefined ? {} : { StopSignal: wanted.stopSignal }),
    StopTimeout: wanted.stopTimeoutSeconds,
    HostConfig: {
      ...dockerLimits(containerLimits(set.template, wanted)),
      Privileged: false,
      SecurityOpt: ["no-new-privileges"],
      ...toCapabilities(wanted),
      Init: wanted.init ?? options.hasInit,
      ReadonlyRootfs: wanted.readOnlyRootfs ?? false,
      ...(wanted.ulimits ? { Ulimits: toUlimits(wanted.ulimits) } : {}),
      ...(wanted.tmpfs ? { Tmpfs: toTmpfs(wanted.tmpfs) } : {}),
      NetworkMode: `container:${options.infraId}`,
      IpcMode: `container:${options.infraId}`,
      CgroupParent: options.cgroupParent,
      Binds: hasVolume ? [`${options.dataPath}:${volume.mountPath}`] : [],
      RestartPolicy: restartPolicy,
      LogConfig: wanted.logging ? toLogConfig(wanted.logging) : logConfig,
    },
  };
}

/**
 * Docker's resolver forwards the queries of the set to its first IPv4 gateway, or to the gateway of
 * queries of its first network. The bridge leads them to the name server of the host. A name
 * without a dot is one of Berth first.
 */
function resolveNames(networks: JoinedNetworks): Docker.HostConfig {
  const gateways = addQueryGateway(
    networks.flatMap(({ attachment }) => attachment?.gateways ?? []),
  );
  const gateway = gateways.find((address) => !address.includes(":"));
  if (gateway === undefined) return {};
  return { Dns: [gateway], DnsSearch: [NAMES_DOMAIN], DnsOptions: ["ndots:1"] };
}

/**
 * Half of the set's memory, as Linux has it for a machine. The files count as memory of the
 * container that writes them. Docker's default of 64 MiB is the minimum.
 */
function sharedMemoryBytes({ shmBytes, memoryBytes }: LocalSetSpec["template"]): number {
  return shmBytes ?? Math.max(sharedMemoryBytesMin, Math.floor(memoryBytes / 2));
}

/** The published ports of a set on Docker's bridge. Docker binds none for other sets. */
function listBindings({ attachments, hostPorts = [] }: LocalSetSpec) {
  return attachments ? [] : hostPorts;
}

function exposePorts(set: LocalSetSpec): Pick<Docker.ContainerCreateOptions, "ExposedPorts"> {
  const keys = listBindings(set).map(({ port, protocol }) => `${port}/${protocol}`);
  return keys.length === 0
    ? {}
    : { ExposedPorts: Object.fromEntries(keys.map((key) => [key, {}])) };
}

/** Docker binds the ports on all addresses of the host, at each start of the container. */
function bindPorts(set: LocalSetSpec): Record<string, { HostPort: string }[]> {
  return Object.fromEntries(
    listBindings(set).map(({ port, protocol, hostPort }) => [
      `${port}/${protocol}`,
      [{ HostPort: String(hostPort) }],
    ]),
  );
}

function formatHosts(hosts: Record<string, string>): string[] {
  return Object.entries(hosts).map(([name, address]) => `${name}:${address}`);
}

function toCapabilities({ capAdd = [], capDrop = [] }: ContainerTemplate["options"]) {
  const dropped = capAdd.includes("NET_RAW") ? capDrop : [...capDrop, "NET_RAW"];
  return { CapAdd: [...new Set(capAdd)], CapDrop: [...new Set(dropped)] };
}

function toUlimits(ulimits: NonNullable<ContainerTemplate["options"]["ulimits"]>) {
  return Object.entries(ulimits).map(([name, { soft, hard }]) => ({
    Name: name,
    Soft: soft,
    Hard: hard,
  }));
}

function toTmpfs(mounts: NonNullable<ContainerTemplate["options"]["tmpfs"]>) {
  const options = (sizeBytes: number) => `size=${sizeBytes},mode=1777`;
  return Object.fromEntries(
    mounts.map(({ mountPath, sizeBytes }) => [mountPath, options(sizeBytes)]),
  );
}

function toLogConfig({
  driver,
  maxFiles,
  maxSizeBytes,
}: NonNullable<ContainerTemplate["options"]["logging"]>) {
  // The driver "local" compresses rotated files by default, and refuses that without any.
  const isUncompressed = driver === "local" && maxFiles === 1;
  return {
    Type: driver,
    Config: {
      "max-size": String(maxSizeBytes),
      "max-file": String(maxFiles),
      ...(isUncompressed ? { compress: "false" } : {}),
    },
  };
}

/**
 * Privileged if the machine allows it. Docker cannot start a privileged container under a
 * restricted capability bounding set, as in nested containers. Then infra gets the essentials: a
 * writable /proc/sys and NET_ADMIN.
 */
function privilege(canRunPrivileged: boolean): Docker.HostConfig {
  if (canRunPrivileged) return { Privileged: true };
  return { Privileged: false, CapAdd: ["NET_ADMIN"], MaskedPaths: [], ReadonlyPaths: [] };
}
