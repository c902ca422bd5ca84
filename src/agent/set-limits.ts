import type { SetTemplate } from "../contracts/set-template.ts";
import type { Limits, ObservedLocalSet } from "./ports/set-port.ts";

export const CPU_PERIOD_US = 100_000;
/** What the kernel gives to whoever asks for nothing, and Docker means by 0. */
export const CPU_SHARES_PER_CORE = 1_024;
/** The kernel's smallest quota. */
const quotaUsMin = 1_000;
/** Docker refuses less. The set's own cgroup still holds containers together below their sum. */
const containerMemoryBytesMin = 6 * 2 ** 20;

/** Processes and threads of a set together: a set that makes them without end leaves the machine enough of its own. */
export const SET_PIDS_MAX = 8_192;

type Amounts = Pick<SetTemplate, "cpuMillis" | "memoryBytes">;

export function cpuQuotaUs(cpuMillis: number): number {
  return Math.max(quotaUsMin, Math.floor((cpuMillis * CPU_PERIOD_US) / 1_000));
}

function cpuShares(cpuMillis: number): number {
  const shares = Math.floor((cpuMillis * CPU_SHARES_PER_CORE) / 1_000);
  return Math.min(cpuSharesMax, Math.max(cpuSharesMin, shares));
}

/** The kernel's and Docker's bounds. */
const cpuSharesMin = 2;
const cpuSharesMax = 262_144;

/** Shares in the terms of cgroups version 2, as runc translates those of containers: 1 to 10000. */
export function toCpuWeight(shares: number): number {
  return 1 + Math.floor(((shares - cpuSharesMin) * 9_999) / (cpuSharesMax - cpuSharesMin));
}

/** The fewest shares of that weight, so that there and back it is the same weight. */
export function toCpuShares(weight: number): number {
  return Math.ceil(cpuSharesMin + ((weight - 1) * (cpuSharesMax - cpuSharesMin)) / 9_999);
}

export function setLimits({ cpuMillis, memoryBytes }: Amounts): Limits {
  return { cpuQuotaUs: cpuQuotaUs(cpuMillis), cpuShares: cpuShares(cpuMillis), memoryBytes };
}

/** `wanted`, but nothing less than `seen`: what a set needs while some of its containers still have their former limits. */
export function widenedLimits(seen: Limits | undefined, wanted: Limits): Limits {
  if (!seen) return wanted;
  return {
    ...wanted,
    cpuQuotaUs: Math.max(seen.cpuQuotaUs, wanted.cpuQuotaUs),
    memoryBytes: Math.max(seen.memoryBytes, wanted.memoryBytes),
  };
}

/** Of a business container: its percentages of the set, in whole microseconds and bytes. */
export function containerLimits(
  template: Amounts,
  { cpuPercent, memoryPercent }: { cpuPercent: number; memoryPercent: number },
): Limits {
  const cpuMillis = (template.cpuMillis * cpuPercent) / 100;
  return {
    cpuQuotaUs: cpuQuotaUs(cpuMillis),
    cpuShares: cpuShares(cpuMillis),
    memoryBytes: Math.max(
      containerMemoryBytesMin,
      Math.floor((template.memoryBytes * memoryPercent) / 100),
    ),
  };
}

/** Whether a set is held by what its template says, and its volume is as large. What is not known is taken to be so. */
export function isSized(template: SetTemplate, observed: ObservedLocalSet): boolean {
  if (!isLimited(observed.limits, setLimits(template))) return false;
  const { volumeBytes } = observed;
  if (template.volume && volumeBytes !== undefined && volumeBytes < template.volume.sizeBytes)
    return false;
  return template.containers.every(({ name, options }) => {
    const seen = observed.containers.find((candidate) => candidate.name === name);
    return isLimited(seen?.limits, containerLimits(template, options));
  });
}

/** Whether something is held as it should be, as far as is known. */
export function isLimited(seen: Limits | undefined, wanted: Limits): boolean {
  if (!seen) return true;
  return (
    seen.cpuQuotaUs === wanted.cpuQuotaUs &&
    // A kernel with weights knows no finer differences.
    toCpuWeight(seen.cpuShares) === toCpuWeight(wanted.cpuShares) &&
    isSameMemory(seen.memoryBytes, wanted.memoryBytes)
  );
}

/** The kernel rounds limits of memory down to pages. */
function isSameMemory(seenBytes: number, wantedBytes: number): boolean {
  return seenBytes === wantedBytes || Math.abs(seenBytes - wantedBytes) < pageBytesMax;
}

const pageBytesMax = 65_536;
