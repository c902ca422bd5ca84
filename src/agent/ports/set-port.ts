import type { IoLimits, SetTemplate } from "../../contracts/api/set-template.ts";

/**
 * What the agent can do to the containers of sets on its host, in the order of a set's life. One adapter talks to Docker
 * (adapters/docker), one keeps everything in memory for simulated hosts (adapters/simulated); both pass the same
 * contract suite (test/contract/set-port.ts).
 *
 * Every call is idempotent: what is there already is not made again, what is gone already is not an error. Calls for one
 * set never overlap (the loop sees to it); calls for different sets do. A call rejects with AgentError, which says
 * whether it can get better by itself. Nothing that does not carry Berth's labels and this host's id is ever touched.
 */
export interface SetPort {
  /** Everything of Berth's on this host: one entry per set of which at least one container, cgroup or volume in use exists. */
  observe(signal: AbortSignal): Promise<ObservedLocalSet[]>;
  /** One set, or undefined when nothing of it exists. */
  observeSet(setId: string, signal: AbortSignal): Promise<ObservedLocalSet | undefined>;
  /**
   * Makes the set's cgroup and volume, creates and starts its infra container and creates (not starts) every business container
   * that is missing. Containers of another spec hash, or made before `restartGeneration`, are stopped and made anew.
   * These steps overlap where they do not depend on each other.
   */
  prepare(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  /** Gives the set, its containers and its volume the size of its template while they run. They must be prepared. */
  resize(set: LocalSetSpec, signal: AbortSignal): Promise<void>;
  /** Starts the named business containers, in parallel. They must be prepared. */
  start(set: LocalSetSpec, containers: readonly string[], signal: AbortSignal): Promise<void>;
  /** Stops the named business containers with their stop signal and timeout, in parallel. */
  stop(set: LocalSetSpec, containers: readonly string[], signal: AbortSignal): Promise<void>;
  /**
   * Stops what still runs (business containers by index, highest first, then infra), removes every container and the cgroup,
   * and trashes the volume.
   * Works from labels alone, for sets of which no spec is known any more.
   */
  remove(setId: string, signal: AbortSignal): Promise<void>;
  /** Stops what runs, as `remove` does, and keeps the containers: what a stopped set is. */
  stopAll(setId: string, signal: AbortSignal): Promise<void>;
  /** One probe of a container's health check, bounded by its timeout. */
  probe(set: LocalSetSpec, container: string, signal: AbortSignal): Promise<ProbeResult>;
  /** A container's output as bytes, demultiplexed: the last `tail` lines, and with `follow` what comes until aborted. */
  logs(
    setId: string,
    container: string,
    options: { tail: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
  /**
   * Calls `onChange` with the set's id whenever a container of it started, died or was removed, by anybody. A hint for speed only: events are lost when
   * the daemon restarts, and the periodic observe corrects that. Ends when aborted.
   */
  watch(onChange: (setId: string) => void, signal: AbortSignal): Promise<void>;
  /**
   * Bytes of memory that each set's processes hold, by its id, and each container's, by the first 12 characters of its own; page cache
   * that can be dropped is left out. No Docker call.
   */
  memoryUse(): Promise<Record<string, number>>;
  /** Answers within `timeoutMs` or rejects: how a hung daemon is found. */
  ping(timeoutMs: number): Promise<void>;
  /** References of all images that the daemon holds. */
  images(signal: AbortSignal): Promise<string[]>;
}

/** What a set should be on this host, as the agent keeps it. */
export interface LocalSetSpec {
  setId: string;
  tenant: string;
  service: string;
  revision: number;
  generation: number;
  restartGeneration: number;
  /** A trashed volume that is to be the set's, instead of a new one. */
  restoreVolumeId: string | null;
  template: SetTemplate;
}

/** What holds a set, or one container of it. A limit that somebody has lifted is infinite. */
export interface Limits {
  /** Microseconds of CPU time in each period of 100 ms. */
  cpuQuotaUs: number;
  /** What it gets of a CPU that others want too, in the terms of cgroups version 1: 1024 for each core. */
  cpuShares: number;
  memoryBytes: number;
  /** What is left to it as long as others have more than theirs; undefined where that is not known. */
  reservationBytes?: number | undefined;
  /** Processes and threads; undefined where the kernel does not count them. */
  pidsMax?: number | undefined;
}

/** What holds the block I/O of a container that runs, or of its set as a whole. */
export interface ObservedIo {
  /** One for each device that it writes to and that can be limited, as the kernel has them. */
  limits: IoLimits[];
  /** Why there is a device, or all of them, that cannot be limited here. */
  hindrance?: string | undefined;
}

export interface ObservedLocalSet {
  setId: string;
  /** From the labels of the infra container; undefined when only remains are left. */
  generation: number | undefined;
  infra: ObservedContainer | undefined;
  /** Business containers by name order of the template's index, then name. */
  containers: ObservedContainer[];
  /** Of the set as a whole, as the kernel has them; undefined while they are not known. */
  limits?: Limits | undefined;
  /** Of its volume. */
  volumeBytes?: number | undefined;
  /** The set's address on its network while infra runs. */
  address: string | undefined;
}

export interface ObservedContainer {
  name: string;
  dockerId: string;
  state: "created" | "running" | "restarting" | "exited" | "dead";
  /** Hash of everything that makes a container another container: a difference means it has to be made anew. */
  specHash: string;
  /** The restartGeneration it was made for. */
  restartGeneration: number;
  exitCode: number | undefined;
  /** It ended because its main process was killed for want of memory. */
  oomKilled: boolean;
  /** Processes that were killed for want of memory since it was started last. */
  oomKills: number;
  /** The most memory it had since then; undefined when that is not known. */
  memoryPeakBytes?: number | undefined;
  startedAt: string | undefined;
  finishedAt: string | undefined;
  limits?: Limits | undefined;
  /** Undefined while it does not run. */
  io?: ObservedIo | undefined;
}

export type ProbeResult = { healthy: true } | { healthy: false; detail: string };
