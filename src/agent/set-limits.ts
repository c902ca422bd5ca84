import type { SetTemplate } from "../contracts/set-template.ts";
import type { ObservedLocalSet } from "./ports/set-port.ts";

export const CPU_PERIOD_US = 100_000;
/** The kernel's smallest quota. */
const quotaUsMin = 1_000;
/** Docker refuses less. The set's own cgroup still holds containers together below their sum. */
const containerMemoryBytesMin = 6 * 2 ** 20;

/** What holds a set, or one container of it. */
export interface Limits {
  /** Microseconds of CPU time in each period of 100 ms. */
  cpuQuotaUs: number;
  memoryBytes: number;
}

type Amounts = Pick<SetTemplate, "cpuMillis" | "memoryBytes">;

export function cpuQuotaUs(cpuMillis: number): number {
  return Math.max(quotaUsMin, Math.floor((cpuMillis * CPU_PERIOD_US) / 1_000));
}

export function setLimits({ cpuMillis, memoryBytes }: Amounts): Limits {
  return { cpuQuotaUs: cpuQuotaUs(cpuMillis), memoryBytes };
}

/** Of a business container: its percentages of the set, in whole microseconds and bytes. */
export function containerLimits(
  template: Amounts,
  { cpuPercent, memoryPercent }: { cpuPercent: number; memoryPercent: number },
): Limits {
  return {
    cpuQuotaUs: cpuQuotaUs((template.cpuMillis * cpuPercent) / 100),
    memoryBytes: Math.max(
      containerMemoryBytesMin,
      Math.floor((template.memoryBytes * memoryPercent) / 100),
    ),
  };
}

/** Whether a set is held by what its template says, and its volume is as large. What is not known is taken to be so. */
export function isSized(template: SetTemplate, observed: ObservedLocalSet): boolean {
  if (!isSame(observed.limits, setLimits(template))) return false;
  const { volumeBytes } = observed;
  if (template.volume && volumeBytes !== undefined && volumeBytes < template.volume.sizeBytes)
    return false;
  return template.containers.every(({ name, options }) => {
    const seen = observed.containers.find((candidate) => candidate.name === name);
    return isSame(seen?.limits, containerLimits(template, options));
  });
}

function isSame(seen: Limits | undefined, wanted: Limits): boolean {
  if (!seen) return true;
  return (
    seen.cpuQuotaUs === wanted.cpuQuotaUs && isSameMemory(seen.memoryBytes, wanted.memoryBytes)
  );
}

/** The kernel rounds limits of memory down to pages. */
function isSameMemory(seenBytes: number, wantedBytes: number): boolean {
  return Math.abs(seenBytes - wantedBytes) < pageBytesMax;
}

const pageBytesMax = 65_536;
