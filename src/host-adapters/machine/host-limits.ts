import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import path from "node:path";

/**
 * Limits of the machine that all sets of a host share. Each set uses a part of them, even if its
 * containers only sleep. With too many sets, containers fail, and the errors do not name the limit.
 * An example is "too many open files" for inotify instances.
 */
export interface HostLimit {
  /** The sysctl, or a description of the limit. */
  name: string;
  value: number;
  /** The number of sets for which the limit is high enough. */
  setsMax: number;
  /**
   * True if no container starts above the limit. Only such a limit bounds the sets of a host. An
   * estimate of the others must not stop the placement on a host that runs more sets already.
   */
  isHard: boolean;
  /** The action of an operator. */
  remedy: string;
}

/** The use of a limit: by the machine itself, and by one set of three containers. */
interface LimitUsage {
  byMachine: number;
  perSet: number;
  isHard: boolean;
}

interface SysctlUsage extends LimitUsage {
  name: string;
  /** Relative to proc. */
  file: string;
}

const inotifyInstances = "fs.inotify.max_user_instances";

/**
 * Counted on Debian with Docker 28 and cgroup version 2. A set has an infra container and two more.
 * Applications need more; the values are the least that each set uses.
 */
const sysctlUsages: readonly SysctlUsage[] = [
  // A shim of containerd has about 12 threads, and each container at least one process.
  // kernel.threads-max grows with the memory, which is exhausted earlier.
  {
    name: "kernel.pid_max",
    file: "sys/kernel/pid_max",
    byMachine: 1_500,
    perSet: 45,
    isHard: true,
  },
  // All containers run as root of the machine, so they share the instances of one user. The shim
  // of each container uses one for events of memory. Without one, the container runs all the same.
  {
    name: inotifyInstances,
    file: "sys/fs/inotify/max_user_instances",
    byMachine: 40,
    perSet: 3,
    isHard: false,
  },
  {
    name: "fs.inotify.max_user_watches",
    file: "sys/fs/inotify/max_user_watches",
    byMachine: 1_000,
    perSet: 6,
    isHard: false,
  },
  // The host has an entry for each set, and each set one for the host. All namespaces share the
  // table. Sets that connect to each other need more.
  {
    name: "net.ipv4.neigh.default.gc_thresh3",
    file: "sys/net/ipv4/neigh/default/gc_thresh3",
    byMachine: 64,
    perSet: 2,
    isHard: false,
  },
  // Connections through Docker's address translation, of which an idle set has none.
  {
    name: "net.netfilter.nf_conntrack_max",
    file: "sys/net/netfilter/nf_conntrack_max",
    byMachine: 4_096,
    perSet: 64,
    isHard: false,
  },
  // Root file systems, shared memory and network namespaces.
  {
    name: "fs.mount-max",
    file: "sys/fs/mount-max",
    byMachine: 1_000,
    perSet: 8,
    isHard: false,
  },
];

/** The kernel's limit of devices on a bridge, less the bridge itself. */
const bridgePortsMax = 1_023;
const dockerBridge = "docker0";
/** Open files of the daemon: for the output of each container, and connections to containerd. */
const daemonFiles: LimitUsage = { byMachine: 200, perSet: 24, isHard: false };
const addressesReserved = 3;

export interface HostLimitsOptions {
  procRoot?: string;
  sysRoot?: string;
  cgroupRoot?: string;
  /** The file with the process id of the Docker daemon. */
  dockerPidFile?: string;
}

/**
 * Reads the limits. One that the kernel lacks, or that the agent cannot read, is omitted. Reads
 * some small files of the kernel, synchronously as read-cgroup.ts does, and runs no program.
 */
export function readHostLimits({
  procRoot = "/proc",
  sysRoot = "/sys",
  cgroupRoot = "/sys/fs/cgroup",
  dockerPidFile = "/run/docker.pid",
}: HostLimitsOptions = {}): HostLimit[] {
  const hasVersion2 = readOrEmpty(path.join(cgroupRoot, "cgroup.controllers")) !== "";
  // With cgroup version 1, a shim gets the events of memory through an eventfd.
  const usages = sysctlUsages.filter(({ name }) => hasVersion2 || name !== inotifyInstances);
  const limits = usages.map(({ name, file, ...usage }) => {
    const value = Number(readOrEmpty(path.join(procRoot, file)));
    const remedy =
      "copy /opt/berth/systemd/sysctl.d/berth.conf to /etc/sysctl.d/, and restart systemd-sysctl";
    return toLimit({ name, value, remedy }, usage);
  });
  limits.push(
    readDaemonFiles(procRoot, dockerPidFile),
    readBridgePorts(sysRoot),
    readBridgeAddresses(procRoot),
  );
  return limits.filter((limit) => limit !== undefined);
}

/** The limit that admits the fewest sets. */
export function findTightest(limits: readonly HostLimit[]): HostLimit | undefined {
  return limits.reduce<HostLimit | undefined>(
    (tightest, limit) => (tightest && tightest.setsMax <= limit.setsMax ? tightest : limit),
    undefined,
  );
}

function toLimit(
  limit: Omit<HostLimit, "setsMax" | "isHard">,
  { byMachine, perSet, isHard }: LimitUsage,
): HostLimit | undefined {
  if (!Number.isSafeInteger(limit.value) || limit.value <= 0) return undefined;
  const setsMax = Math.max(0, Math.floor((limit.value - byMachine) / perSet));
  return { ...limit, setsMax, isHard };
}

function readDaemonFiles(procRoot: string, pidFile: string): HostLimit | undefined {
  const pid = Number(readOrEmpty(pidFile));
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  const text = readOrEmpty(path.join(procRoot, String(pid), "limits"));
  const value = Number(/^Max open files +(\d+)/m.exec(text)?.[1] ?? Number.NaN);
  const limit = { name: "open files of dockerd", value, remedy: "set LimitNOFILE= of its unit" };
  return toLimit(limit, daemonFiles);
}

/**
 * Counts the ports of the bridge that are physical devices. No set can use these; ports of sets do
 * not count.
 */
function readBridgePorts(sysRoot: string): HostLimit | undefined {
  const devices = path.join(sysRoot, "class/net");
  const ports = orUndefined(() => readdirSync(path.join(devices, dockerBridge, "brif")));
  if (!ports) return undefined;
  const links = ports.map((port) => orUndefined(() => readlinkSync(path.join(devices, port))));
  // Containers have virtual Ethernet devices.
  const others = links.filter((link) => link !== undefined && !link.includes("/virtual/")).length;
  const name = `the ports of ${dockerBridge}`;
  const remedy = "the kernel allows no more, so place sets on other hosts";
  return toLimit(
    { name, value: bridgePortsMax, remedy },
    { byMachine: others, perSet: 1, isHard: true },
  );
}

/**
 * Reads the size of the bridge's network from the kernel's routes. Their columns are interface,
 * destination, gateway, flags, three numbers, and the mask in hexadecimal.
 */
function readBridgeAddresses(procRoot: string): HostLimit | undefined {
  const routes = readOrEmpty(path.join(procRoot, "net/route"));
  const mask = new RegExp(`^${dockerBridge}\\t(?:\\w+\\t){6}(\\w{8})\\b`, "m").exec(routes)?.[1];
  if (mask === undefined) return undefined;
  const hostBits = 32 - Number.parseInt(mask, 16).toString(2).replaceAll("0", "").length;
  return toLimit(
    {
      name: `the addresses of ${dockerBridge}`,
      value: 2 ** hostBits,
      remedy: "give Docker a larger network with `bip` in its daemon.json",
    },
    { byMachine: addressesReserved, perSet: 1, isHard: true },
  );
}

function readOrEmpty(file: string): string {
  return orUndefined(() => readFileSync(file, "utf8").trim()) ?? "";
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
