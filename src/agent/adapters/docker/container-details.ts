import type Docker from "dockerode";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { createConcurrencyLimit } from "../../concurrency-limit.ts";
import type { Limits } from "../../ports/set-port.ts";
import { CPU_PERIOD_US, CPU_SHARES_PER_CORE } from "../../set-limits.ts";
import type { ListedContainer } from "./container-labels.ts";

/** What Docker's list does not say of a container. */
export interface ContainerDetails {
  exitCode: number | undefined;
  oomKilled: boolean;
  startedAt: string | undefined;
  finishedAt: string | undefined;
  limits: Limits;
}

export interface ContainerDetailsCache {
  /** Undefined when the container is gone by now. */
  get(container: ListedContainer, signal: AbortSignal): Promise<ContainerDetails | undefined>;
  /** Something happened to the container: what is known of it is old. */
  forget(dockerId: string): void;
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
 */
export function createContainerDetailsCache(docker: Docker): ContainerDetailsCache {
  const known = new Map<string, { dockerState: string; details: ContainerDetails }>();
  /** Raised by every change, so that an answer older than the change is not remembered. */
  let epoch = 0;
  let isLive = false;
  const limit = createConcurrencyLimit(inspectsMax);
  return {
    async get({ dockerId, dockerState }, signal) {
      const hit = known.get(dockerId);
      if (hit?.dockerState === dockerState) return hit.details;
      const askedAtEpoch = epoch;
      const info = await limit(() => inspect(docker, dockerId, signal));
      if (!info) return undefined;
      const details = toDetails(info);
      if (isLive && epoch === askedAtEpoch) {
        known.set(dockerId, { dockerState: info.State.Status, details });
      }
      return details;
    },
    forget(dockerId) {
      epoch += 1;
      known.delete(dockerId);
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

function toDetails({
  State: state,
  HostConfig: host,
}: Docker.ContainerInspectInfo): ContainerDetails {
  const hasEnded = !state.Running && isTime(state.FinishedAt);
  return {
    exitCode: hasEnded ? state.ExitCode : undefined,
    oomKilled: state.OOMKilled,
    startedAt: isTime(state.StartedAt) ? state.StartedAt : undefined,
    finishedAt: hasEnded ? state.FinishedAt : undefined,
    limits: toLimits(host),
  };
}

/** Docker's 0 is its default: no limit, a period of 100 ms, and the shares of one core. */
function toLimits({ CpuQuota, CpuPeriod, CpuShares, Memory }: Docker.HostConfig): Limits {
  const isQuotaSet = CpuQuota !== undefined && CpuQuota > 0;
  return {
    cpuQuotaUs: isQuotaSet ? (CpuQuota * CPU_PERIOD_US) / (CpuPeriod || CPU_PERIOD_US) : Infinity,
    cpuShares: CpuShares || CPU_SHARES_PER_CORE,
    memoryBytes: Memory || Infinity,
  };
}

function isTime(text: string): boolean {
  return text !== "" && !text.startsWith(zeroTimePrefix);
}
