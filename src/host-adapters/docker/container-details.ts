import type Docker from "dockerode";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { createFairLimit } from "../../lib/async/fair-limit.ts";
import type { Limits } from "../../agent/model/local-set.ts";
import { CPU_PERIOD_US, CPU_SHARES_PER_CORE } from "../../agent/model/set-limits.ts";
import { findBlockDevice } from "../../lib/linux/block-device.ts";
import type { ContainerDetails, ListedContainer } from "../../agent/ports/container-port.ts";
import { addressIn } from "./container-labels.ts";
import { type InspectAnswer, inspectAnswer, parseAnswer } from "./docker-answers.ts";
import type { MemoryEvents } from "../../agent/ports/cgroup-port.ts";
import { readContainerProcess } from "./container-process.ts";
import { readStartFailure } from "./start-failure.ts";
import { OomKills } from "./oom-kills.ts";

export interface ContainerDetailsCache {
  /** Undefined if the container no longer exists. */
  get(container: ListedContainer, signal: AbortSignal): Promise<ContainerDetails | undefined>;
  /** Drops the details of a container after an event. */
  forget(dockerId: string): void;
  /** Drops the history of the container's run: it started another one, or it was deleted. */
  forgetRun(dockerId: string): void;
  /** Records that the kernel killed a process of the container for lack of memory. */
  noteOomKill(dockerId: string): void;
  noteExit(dockerId: string): void;
  /** Enables the cache while events arrive. Without events, nothing would invalidate it. */
  setLive(isLive: boolean): void;
}

const inspectTimeoutMs = 20_000;
const inspectsMax = 8;
/** A log that cannot be read delays so many observations of its set. */
const logReadsMax = 3;
/** Docker answers within milliseconds. A later answer waits for the lock of a stuck container. */
const inspectSlowMs = 500;
/** Stuck calls without a slot. Each of them ends at its deadline. */
const stuckInspectsMax = 512;
/** Calls of one tenant, including stuck ones. */
const inspectsPerTenantMax = 256;
/** Docker's zero time, which means "never". */
const zeroTimePrefix = "0001-01-01";

/**
 * Caches the details of inspect until an event of Docker. So an observation of 100 idle sets costs
 * one list call and no inspect.
 *
 * @param readMemoryEvents reads the kernel's counters of a running container
 */
export function createContainerDetailsCache(
  docker: Docker,
  readMemoryEvents: (container: ListedContainer) => Promise<MemoryEvents | undefined>,
): ContainerDetailsCache {
  const oomKills = new OomKills();
  const known = new Map<string, ContainerDetails>();
  /** Incremented by each change, so that an older answer is not cached. */
  let epoch = 0;
  let isLive = false;
  /** Failed reads of a log in the container's last run. */
  const unreadLogs = new Map<string, number>();
  const noteUnread = (dockerId: string): number => {
    const count = (unreadLogs.get(dockerId) ?? 0) + 1;
    unreadLogs.set(dockerId, count);
    return count;
  };
  const limit = createFairLimit({
    callsMax: inspectsMax,
    slowMs: inspectSlowMs,
    slowMax: stuckInspectsMax,
    callsPerKeyMax: inspectsPerTenantMax,
  });
  return {
    async get(container, signal) {
      const { dockerId, dockerState, tenant } = container;
      const hit = known.get(dockerId);
      if (hit?.dockerState === dockerState) return hit;
      const askedAtEpoch = epoch;
      const info = await limit(tenant, () => inspect(docker, dockerId, signal));
      if (!info) return undefined;
      const run = toRun(info.State);
      const events = info.State.Running ? await readMemoryEvents(container) : undefined;
      const startFailure = await readStartFailure(docker, info, signal);
      const details = {
        dockerState: info.State.Status,
        address: addressIn(info.NetworkSettings, info.HostConfig.NetworkMode),
        exitCode: run.exitCode,
        startFailure: startFailure.reason,
        startedAt: run.startedAt,
        finishedAt: run.finishedAt,
        process: info.State.Running ? await readContainerProcess(info.State.Pid) : undefined,
        cgroupParent: info.HostConfig.CgroupParent,
        limits: toLimits(info.HostConfig),
        volumeDevice: await findVolumeDevice(info.HostConfig),
        ...oomKills.assess(dockerId, run, events),
      };
      const isFinal = startFailure.isRead || noteUnread(dockerId) >= logReadsMax;
      if (isLive && epoch === askedAtEpoch && isFinal) known.set(dockerId, details);
      return details;
    },
    forget(dockerId) {
      epoch += 1;
      known.delete(dockerId);
    },
    forgetRun(dockerId) {
      oomKills.forget(dockerId);
      unreadLogs.delete(dockerId);
    },
    noteOomKill(dockerId) {
      oomKills.note(dockerId, performance.now());
    },
    noteExit(dockerId) {
      oomKills.noteEnd(dockerId, performance.now());
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
): Promise<InspectAnswer | undefined> {
  try {
    const answer = await callDocker(
      { phase: "observe", timeoutMs: inspectTimeoutMs },
      signal,
      (abortSignal) => docker.getContainer(dockerId).inspect({ abortSignal }),
    );
    return parseAnswer(inspectAnswer, answer, {
      call: "GET /containers/{id}/json",
      phase: "observe",
    });
  } catch (error) {
    if (dockerStatus(error) === 404) return undefined;
    throw error;
  }
}

function toRun(state: InspectAnswer["State"]) {
  const hasEnded = !state.Running && isTime(state.FinishedAt);
  return {
    exitCode: hasEnded ? state.ExitCode : undefined,
    startedAt: isTime(state.StartedAt) ? state.StartedAt : undefined,
    finishedAt: hasEnded ? state.FinishedAt : undefined,
    isFlagged: state.OOMKilled,
  };
}

/** Docker's 0 means its default: no limit, a period of 100 ms, and the shares of one core. */
function toLimits(config: InspectAnswer["HostConfig"]): Limits {
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

/** The device of the only bind mount of Berth's containers, if any. */
async function findVolumeDevice({
  Binds,
}: InspectAnswer["HostConfig"]): Promise<string | undefined> {
  const dataPath = Binds?.[0]?.split(":")[0];
  return dataPath === undefined ? undefined : findBlockDevice(dataPath);
}

function isTime(text: string): boolean {
  return text !== "" && !text.startsWith(zeroTimePrefix);
}
