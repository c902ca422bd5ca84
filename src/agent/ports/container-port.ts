import type { AgentPhase } from "../base/agent-error.ts";
import type { Limits, LocalSetSpec, ProbeResult, StopSignalSource } from "../model/local-set.ts";
import type { JoinedNetworks } from "./network-port.ts";

/**
 * The containers of this host's sets. The set engine (src/agent/engine) decides the order of calls.
 *
 * Every call is idempotent, and a missing container is not an error. Calls for different containers
 * overlap. A call rejects with AgentError, and never changes a container without Berth's labels and
 * this host's id (I4).
 */
export interface ContainerPort {
  /** Lists the containers of all sets, or of one set, by index and then by name. */
  list(
    filter: { setId?: string; phase: AgentPhase },
    signal: AbortSignal,
  ): Promise<ListedContainer[]>;
  /** Facts that the list lacks; undefined if the container no longer exists. */
  inspect(container: ListedContainer, signal: AbortSignal): Promise<ContainerDetails | undefined>;
  /** The same without a cache. Waits for a start of the container that the daemon works on. */
  inspectNow(
    container: ListedContainer,
    signal: AbortSignal,
  ): Promise<ContainerDetails | undefined>;
  /**
   * Creates the infra container, and returns its Docker id. Rejects with IMAGE_MISSING if the
   * daemon lacks the image, and with name-conflict if a foreign container has the name.
   *
   * Infra joins the first network only: see `connectInfra`.
   */
  createInfra(set: LocalSetSpec, options: InfraOptions, signal: AbortSignal): Promise<string>;
  /** Connects an infra container that does not run to the networks after the first one. */
  connectInfra(
    set: LocalSetSpec,
    options: { infraId: string; networks: JoinedNetworks },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Creates a business container in the network of infra, which need not run yet. Rejects with the
   * same codes as `createInfra`.
   */
  createBusiness(
    set: LocalSetSpec,
    name: string,
    options: BusinessOptions,
    signal: AbortSignal,
  ): Promise<string>;
  /**
   * Starts the infra container unless it runs, and waits until it has applied the set's sysctls.
   * The adapter limits the concurrent starts of the host, and tenants take turns.
   */
  startInfra(set: LocalSetSpec, infraId: string, signal: AbortSignal): Promise<void>;
  /** Starts a business container, within the same limit. Does nothing if it runs. */
  start(container: ListedContainer, signal: AbortSignal): Promise<void>;
  /**
   * Stops a container with its stop signal, and kills it after `timeoutSeconds` (by default its own
   * timeout).
   */
  stop(
    dockerId: string,
    options: { timeoutSeconds?: number | undefined },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Deletes a container with its anonymous volumes, and kills it if it runs. Waits for a deletion
   * by another process, so that afterwards the name is free.
   */
  remove(container: ListedContainer, phase: AgentPhase, signal: AbortSignal): Promise<void>;
  /**
   * Changes limits without a restart. Rejects with memory-in-use, and changes nothing, if the
   * kernel refuses the memory limit.
   */
  updateLimits(
    container: ListedContainer,
    limits: Limits,
    options: { includesMemory: boolean },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Runs the command of a health check in a container, within its timeout. A fault of the container
   * is an unhealthy result. A command that is late or aborted leaves no process.
   */
  probe(
    container: { setId: string; dockerId: string },
    check: ExecCheck,
    signal: AbortSignal,
  ): Promise<ProbeResult>;
  /**
   * Calls `onChange` after any start, exit or removal of a container of the host's sets, until
   * aborted. Calls `onOpen` each time that events begin to arrive.
   */
  watch(listener: ContainerListener, signal: AbortSignal): Promise<void>;
}

/** A container of this host's sets, from one list. */
export interface ListedContainer {
  dockerId: string;
  setId: string;
  tenant: string;
  name: string;
  /** Start order; -1 for the infra container, so that it comes first. */
  index: number;
  generation: number;
  specHash: string;
  restartGeneration: number;
  /** Undefined for infra containers, and for containers of earlier releases. */
  stopSignalSource: StopSignalSource | undefined;
  /** Docker's word: created, running, paused, restarting, removing, exited or dead. */
  dockerState: string;
  /** The id of the infra container that a business container joined. */
  infraId: string | undefined;
  address: string | undefined;
}

/** Facts about a container that the list lacks, or has later than the events, such as its exit. */
export interface ContainerDetails extends OutOfMemory {
  dockerState: string;
  address: string | undefined;
  exitCode: number | undefined;
  /** The reason why the command could not be executed, from Docker's init. */
  startFailure: string | undefined;
  startedAt: string | undefined;
  finishedAt: string | undefined;
  /** Undefined while it does not run. */
  process: ContainerProcess | undefined;
  /** The parent of the container's cgroup (CgroupPort.parentOf), since its creation. */
  cgroupParent: string | undefined;
  /** Docker's limits. The kernel's may differ: see CgroupPort.readContainer. */
  limits: Limits;
  /**
   * Device numbers of its set's volume; undefined without a volume, and before the volume is
   * mounted.
   */
  volumeDevice: string | undefined;
}

/** Memory exhaustion in one run of a container. */
export interface OutOfMemory {
  /** Processes that the kernel killed for lack of memory. */
  oomKills: number;
  /** Highest memory usage, page cache included; undefined if it was not observed. */
  memoryPeakBytes: number | undefined;
  /** True if the main process was one of them. */
  oomKilled: boolean;
}

/** The main process of a running container, by facts of the kernel that no clock changes. */
export interface ContainerProcess {
  /** Unique over the life of the machine: the boot, the PID, and the ticks from boot to start. */
  id: string;
  /**
   * Its network namespace, such as "net:[4026532281]". Undefined if the agent may not read it,
   * without CAP_SYS_PTRACE for example.
   */
  network: string | undefined;
  /** The names of its network interfaces. */
  interfaces: string;
}

export interface InfraOptions {
  image: string;
  /** The cgroup of the set (CgroupPort.parentOf). */
  cgroupParent: string;
  /** The networks that infra joins (NetworkPort.prepare). */
  networks: JoinedNetworks;
  /** The host's path of the volume's data; undefined without a volume. */
  dataPath: string | undefined;
}

export interface BusinessOptions {
  infraId: string;
  cgroupParent: string;
  dataPath: string | undefined;
}

export interface ExecCheck {
  command: readonly string[];
  timeoutSeconds: number;
  /** Lists the processes of the container. The adapter kills no other process. */
  listProcesses: () => Promise<readonly number[]>;
}

export interface ContainerListener {
  onChange: (setId: string) => void;
  onOpen?: (() => void) | undefined;
}
