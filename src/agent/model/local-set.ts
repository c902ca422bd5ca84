import type { Attachment } from "../../contracts/agent-protocol/attachment.ts";
import type { HostPort } from "../../contracts/agent-protocol/desired-set.ts";
import type { IoLimits, SetTemplate } from "../../contracts/api/set-template.ts";

/** The spec of a set, without its desired run state. */
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
  /** The interfaces of the set. Without them it uses Docker's bridge. */
  attachments?: Attachment[] | undefined;
  /** The host ports that lead to ports of the set. */
  hostPorts?: HostPort[] | undefined;
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

/** True if Docker does not describe one of the set's containers now. */
export function hasUnknown(observed: ObservedLocalSet | undefined): boolean {
  return [observed?.infra, ...(observed?.containers ?? [])].some((seen) => seen?.isUnknown);
}

/** The origin of a container's stop signal. */
export type StopSignalSource = "image" | "template";

export interface ObservedContainer {
  name: string;
  dockerId: string;
  /** Docker lists the container, but does not describe it now. Then only its state is known. */
  isUnknown?: boolean | undefined;
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

/** A container that a preparation could not create, and the error of its creation. */
export interface ContainerFailure {
  container: string;
  error: unknown;
}
