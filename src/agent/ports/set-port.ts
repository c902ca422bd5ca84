import type { IoLimits, SetTemplate } from "../../contracts/api/set-template.ts";

/**
 * The agent's operations on the containers of its host's sets, in the order of a set's life. Two
 * adapters implement it: adapters/docker calls Docker, and adapters/simulated has containers in
 * memory for simulated hosts. Both pass the contract suite in test/contract/set-port.ts.
 *
 * Every call is idempotent: it does not create an existing object again, and a missing object is
 * not an error. The agent never overlaps calls for one set; calls for different sets overlap. A
 * call rejects with AgentError, which states whether a retry can help. A call never changes an
 * object without Berth's labels and this host's id.
 */
export interface SetPort {
  /**
   * Lists the sets of this host that have at least one container, cgroup or mounted volume. A set
   * that cannot be observed is not in the list, and `onUnseen` receives its error. Without
   * `onUnseen`, the call rejects with that error.
   */
  observe(
    signal: AbortSignal,
    onUnseen?: (setId: string, error: unknown) => void,
  ): Promise<ObservedLocalSet[]>;
  /** Observes one set; undefined if it has no container, cgroup or mounted volume. */
  observeSet(setId: string, signal: AbortSignal): Promise<ObservedLocalSet | undefined>;
  /**
   * Creates the set's cgroup and volume, and creates and starts its infra container. Creates, but
   * does not start, each missing business container. Replaces containers with another spec hash or
   * a `restartGeneration` below the desired one. Stops containers that lost the network of an
   * earlier run of infra. Independent steps overlap. It creates no container in `completed`.
   *
   * Pulls no image. Rejects with the code `IMAGE_MISSING` (agent-error.ts) if the daemon lacks one,
   * and then replaces no container.
   */
  prepare(
    set: LocalSetSpec,
    signal: AbortSignal,
    options?: { completed?: readonly string[] },
  ): Promise<void>;
  /**
   * Pulls the images that `prepare` needs and the daemon lacks. It mostly waits, and the adapter
   * limits the concurrent pulls of the host, so callers need no slot.
   */
  pullImages(
    set: LocalSetSpec,
    signal: AbortSignal,
    options?: { completed?: readonly string[] },
  ): Promise<void>;
  /** Resizes a prepared set, its containers and its volume to its template while they run. */
  resize(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  /** Starts the named business containers of a prepared set in parallel. */
  start(set: LocalSetSpec, containers: readonly string[], signal: AbortSignal): Promise<void>;
  /** Stops the named business containers in parallel, with their stop signal and timeout. */
  stop(set: LocalSetSpec, containers: readonly string[], signal: AbortSignal): Promise<void>;
  /**
   * Stops the running containers: business containers by descending index, then infra. Then deletes
   * every container and the cgroup, and trashes the volume. Needs only labels, so it also works for
   * a set without a known spec.
   */
  remove(setId: string, signal: AbortSignal): Promise<void>;
  /**
   * Stops the running containers in the order of `remove`. The containers stay, as in a stopped
   * set.
   */
  stopAll(setId: string, signal: AbortSignal): Promise<void>;
  /**
   * Runs one probe of an observed container's health check, within its timeout. Only a check with a
   * command calls the Docker API.
   */
  probe(set: LocalSetSpec, target: ProbeTarget, signal: AbortSignal): Promise<ProbeResult>;
  /**
   * Streams a container's output as demultiplexed bytes: the last `tail` lines. With `follow` it
   * continues until aborted.
   */
  logs(
    setId: string,
    container: string,
    options: { tail: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
  /**
   * Calls `onChange` with the set's id after any start, exit or removal of its containers, whatever
   * the cause. Events only reduce latency: a daemon restart loses events, and the periodic resync
   * corrects that. Ends when aborted.
   *
   * Calls `onOpen` each time that events begin to arrive, because earlier changes caused none.
   */
  watch(onChange: (setId: string) => void, signal: AbortSignal, onOpen?: () => void): Promise<void>;
  /**
   * Bytes of memory that sets and containers hold, without page cache that the kernel can drop. The
   * keys are set ids and the first 12 characters of container ids. Calls no Docker API.
   */
  memoryUsage(): Promise<Record<string, number>>;
  /** Resolves if the daemon answers within `timeoutMs`, else rejects. Detects a hung daemon. */
  ping(timeoutMs: number): Promise<void>;
  /** Lists the references of all images in the daemon. */
  images(signal: AbortSignal): Promise<string[]>;
}

/** The desired state of a set on this host. */
export interface LocalSetSpec {
  setId: string;
  tenant: string;
  service: string;
  revision: number;
  generation: number;
  restartGeneration: number;
  /** A trashed volume that the set uses instead of a new one. */
  restoreVolumeId: string | null;
  template: SetTemplate;
}

/** Limits of a set or of one container. A removed limit is Infinity. */
export interface Limits {
  /** Microseconds of CPU time in each period of 100 ms. */
  cpuQuotaUs: number;
  /** CPU weight under contention, in shares of cgroups version 1: 1024 for each core. */
  cpuShares: number;
  /** The kernel's weight of cgroups version 2; undefined if the kernel has shares. */
  cpuWeight?: number | undefined;
  memoryBytes: number;
  /**
   * Memory that the kernel reclaims last under pressure; undefined if the kernel does not report
   * it.
   */
  reservationBytes?: number | undefined;
  /** Limit of processes and threads; undefined if the kernel does not count them. */
  pidsMax?: number | undefined;
}

/** Limits of block I/O of a running container or of its set. */
export interface ObservedIo {
  /** The kernel's limits for each device that the container writes to and that supports limits. */
  limits: IoLimits[];
  /** The reason why the kernel cannot limit one or all of the devices. */
  unenforceableReason?: string | undefined;
}

export interface ObservedLocalSet {
  setId: string;
  /** Generation from the labels of the infra container; undefined if infra does not exist. */
  generation: number | undefined;
  infra: ObservedContainer | undefined;
  /**
   * Identifies the current run of infra by facts that no clock changes; undefined while it does not
   * run. Never parsed, only compared.
   */
  infraRun?: string | undefined;
  /** Business containers in the order of the template's index, then of the name. */
  containers: ObservedContainer[];
  /** The kernel's limits of the set as a whole; undefined while they are unknown. */
  limits?: Limits | undefined;
  /** Size of the set's volume. */
  volumeBytes?: number | undefined;
  /** The set's address on its network while infra runs. */
  address: string | undefined;
}

/** The origin of a container's stop signal. */
export type StopSignalSource = "image" | "template";

export interface ObservedContainer {
  name: string;
  dockerId: string;
  /** dead: Docker cannot remove it, or it runs without the network of the current run of infra. */
  state: "created" | "running" | "restarting" | "exited" | "dead";
  /**
   * Hash of every property that requires a new container. A difference means that the container is
   * outdated.
   */
  specHash: string;
  /** The restartGeneration that the container was created for. */
  restartGeneration: number;
  /** Undefined for infra containers, and for containers of earlier releases. */
  stopSignalSource?: StopSignalSource | undefined;
  exitCode: number | undefined;
  /** The reason why the container has exited without executing its command. */
  startFailure?: string | undefined;
  /** True if the kernel killed the main process because memory ran out. */
  oomKilled: boolean;
  /** Processes that the kernel killed for lack of memory since the last start of the container. */
  oomKills: number;
  /** Highest memory usage since the last start; undefined if the kernel does not report it. */
  memoryPeakBytes?: number | undefined;
  /** Times of Docker, for people. The wall clock may have been stepped between any two of them. */
  startedAt: string | undefined;
  /** Undefined while it runs. */
  finishedAt: string | undefined;
  limits?: Limits | undefined;
  /** Undefined while the container does not run. */
  io?: ObservedIo | undefined;
}

export interface ProbeTarget {
  container: ObservedContainer;
  /** The set's address. */
  address: string | undefined;
}

export type ProbeResult = { healthy: true } | { healthy: false; detail: string };
