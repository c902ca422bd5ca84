import type Docker from "dockerode";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { createConcurrencyLimit } from "../../../lib/async/concurrency-limit.ts";
import type { Limits } from "../../ports/set-port.ts";
import { CPU_PERIOD_US, CPU_SHARES_PER_CORE } from "../../set-limits.ts";
import { blockDeviceOf } from "../machine/block-device.ts";
import { addressIn, type ListedContainer } from "./container-labels.ts";
import type { MemoryEvents } from "../cgroup/read-cgroup.ts";
import { OomKills, type OutOfMemory } from "./oom-kills.ts";

/** What Docker's list does not say of a container, or says later than its events: that it ended, for one (Docker 20.10). */
export interface ContainerDetails extends OutOfMemory {
  dockerState: string;
  address: string | undefined;
  exitCode: number | undefined;
  startedAt: string | undefined;
  finishedAt: string | undefined;
  /** As Docker has them. The kernel may hold it to others: see readContainer of SetCgroups. */
  limits: Limits;
  /** Numbers of the device of its set's volume; undefined when it has none, or that is not mounted yet. */
  volumeDevice: string | undefined;
}

export interface ContainerDetailsCache {
  /** Undefined when the container is gone by now. */
  get(container: ListedContainer, signal: AbortSignal): Promise<ContainerDetails | undefined>;
  /** Something happened to the container: what is known of it is old. */
  forget(dockerId: string): void;
  /** It has begun another run, or is no more. */
  forgetRun(dockerId: string): void;
  /** One of its processes was killed for want of memory. */
  noteOomKill(dockerId: string, atMs: number): void;
  /** Whether events arrive. Without them nothing is remembered, because nothing would be forgotten. */
  setLive(isLive: boolean): void;
}

const inspectTimeoutMs = 20_000;
const inspectsMax = 8;
/** Docker's way to say "never". */
const zeroTimePrefix = "0001-01-01";

/**
 * Details by inspect, remembered as long as Docker's events say that nothing changed: observing 100 quiet sets costs
 * one list call and no inspect.
 * @param readMemoryEvents the kernel's, of a container that runs
 */
export function createContainerDetailsCache(
  docker: Docker,
  readMemoryEvents: (container: ListedContainer) => Promise<MemoryEvents | undefined>,
): ContainerDetailsCache {
  const oomKills = new OomKills();
  const known = new Map<string, ContainerDetails>();
  /** Raised by every change, so that an answer older than the change is not remembered. */
  let epoch = 0;
  let isLive = false;
  const limit = createConcurrencyLimit(inspectsMax);
  return {
    async get(container, signal) {
      const { dockerId, dockerState } = container;
      const hit = known.get(dockerId);
      if (hit?.dockerState === dockerState) return hit;
      const askedAtEpoch = epoch;
      const info = await limit(() => inspect(docker, dockerId, signal));
      if (!info) return undefined;
      const run = toRun(info.State);
      const events = info.State.Running ? await readMemoryEvents(container) : undefined;
      const details = {
        dockerState: info.State.Status,
        address: addressIn(info.NetworkSettings),
        exitCode: run.exitCode,
        startedAt: run.startedAt,
        finishedAt: run.finishedAt,
        limits: toLimits(info.HostConfig),
        volumeDevice: await volumeDeviceOf(info.HostConfig),
        ...oomKills.assess(dockerId, run, events),
      };
      if (isLive && epoch === askedAtEpoch) known.set(dockerId, details);
      return details;
    },
    forget(dockerId) {
      epoch += 1;
      known.delete(dockerId);
    },
    forgetRun(dockerId) {
      oomKills.forget(dockerId);
    },
    noteOomKill(dockerId, atMs) {
      oomKills.note(dockerId, atMs);
    },
    setLive(live) {
      epoch += 1;
      isLive = live;
      known.clear();
    },
  };
}

async function inspect(
  docker: Docker,
  dockerId: string,
  signal: AbortSignal,
): Promise<Docker.ContainerInspectInfo | undefined> {
  try {
    return await callDocker(
      { phase: "observe", timeoutMs: inspectTimeoutMs },
      signal,
      (abortSignal) => docker.getContainer(dockerId).inspect({ abortSignal }),
    );
  } catch (error) {
    if (dockerStatus(error) === 404) return undefined;
    throw error;
  }
}

function toRun(state: Docker.ContainerInspectInfo["State"]) {
  const hasEnded = !state.Running && isTime(state.FinishedAt);
  return {
    exitCode: hasEnded ? state.ExitCode : undefined,
    startedAt: isTime(state.StartedAt) ? state.StartedAt : undefined,
    finishedAt: hasEnded ? state.FinishedAt : undefined,
    isFlagged: state.OOMKilled,
  };
}

/** Docker's 0 is its default: no limit, a period of 100 ms, and the shares of one core. */
function toLimits(config: Docker.HostConfig): Limits {
  const { CpuQuota, CpuPeriod, CpuShares, Memory, MemoryReservation, PidsLimit } = config;
  const isQuotaSet = CpuQuota !== undefined && CpuQuota > 0;
  return {
    cpuQuotaUs: isQuotaSet ? (CpuQuota * CPU_PERIOD_US) / (CpuPeriod || CPU_PERIOD_US) : Infinity,
    cpuShares: CpuShares || CPU_SHARES_PER_CORE,
    memoryBytes: Memory || Infinity,
    reservationBytes: MemoryReservation || 0,
    pidsMax: PidsLimit && PidsLimit > 0 ? PidsLimit : Infinity,
  };
}

/** Of the one bind that Berth's containers have, if any. */
async function volumeDeviceOf({ Binds }: Docker.HostConfig): Promise<string | undefined> {
  const dataPath = Binds?.[0]?.split(":")[0];
  return dataPath === undefined ? undefined : blockDeviceOf(dataPath);
}

function isTime(text: string): boolean {
  return text !== "" && !text.startsWith(zeroTimePrefix);
}
