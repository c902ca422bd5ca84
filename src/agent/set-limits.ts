import type { Reason } from "../contracts/common/primitives.ts";
import {
  containerMemoryBytes,
  type IoLimits,
  type SetTemplate,
} from "../contracts/api/set-template.ts";
import type { Limits, ObservedIo, ObservedLocalSet } from "./ports/set-port.ts";

export const CPU_PERIOD_US = 100_000;
/** What the kernel gives to whoever asks for nothing, and Docker means by 0. */
export const CPU_SHARES_PER_CORE = 1_024;
/** The kernel's smallest quota. */
const quotaUsMin = 1_000;
/** Processes and threads of a set together: a set that makes them without end leaves the machine enough of its own. */
const SET_PIDS_MAX = 8_192;
const containerPidsMax = 4_096;

export const ioLimitNames = [
  "readBytesPerSecond",
  "writeBytesPerSecond",
  "readOpsPerSecond",
  "writeOpsPerSecond",
] as const satisfies readonly (keyof IoLimits)[];

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
  return limitsOf({ cpuMillis, memoryBytes, pidsMax: SET_PIDS_MAX });
}

/** All memory that is booked for it is reserved, too. */
function limitsOf({ cpuMillis, memoryBytes, pidsMax }: Amounts & { pidsMax: number }): Limits {
  return {
    cpuQuotaUs: cpuQuotaUs(cpuMillis),
    cpuShares: cpuShares(cpuMillis),
    memoryBytes,
    reservationBytes: memoryBytes,
    pidsMax,
  };
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

/** `limits` with the memory that `other` has. */
export function withMemoryOf(other: Limits, limits: Limits): Limits {
  const { memoryBytes, reservationBytes } = other;
  return { ...limits, memoryBytes, reservationBytes };
}

/** Of a business container: its percentages of the set, in whole microseconds and bytes. */
export function containerLimits(
  template: Amounts,
  { cpuPercent, memoryPercent }: { cpuPercent: number; memoryPercent: number },
): Limits {
  return limitsOf({
    cpuMillis: (template.cpuMillis * cpuPercent) / 100,
    memoryBytes: containerMemoryBytes(template, { memoryPercent }),
    pidsMax: containerPidsMax,
  });
}

/** Whether a set is held by what its template says, and its volume is as large. What is not known is taken to be so. */
export function isSized(template: SetTemplate, observed: ObservedLocalSet): boolean {
  if (!isLimited(observed.limits, setLimits(template))) return false;
  const { volumeBytes } = observed;
  if (template.volume && volumeBytes !== undefined && volumeBytes < template.volume.sizeBytes)
    return false;
  return template.containers.every(({ name, options }) => {
    const seen = observed.containers.find((candidate) => candidate.name === name);
    return (
      isLimited(seen?.limits, containerLimits(template, options)) &&
      isIoLimited(seen?.io, template.io)
    );
  });
}

/** Whether every device that can be limited is. */
export function isIoLimited(seen: ObservedIo | undefined, wanted: IoLimits = {}): boolean {
  return (seen?.limits ?? []).every((limits) =>
    ioLimitNames.every((name) => (limits[name] ?? Infinity) === (wanted[name] ?? Infinity)),
  );
}

/** Why a set is not held to all the block I/O that its template says; undefined when it is, or that is not known. */
export function ioHindrance(
  { io }: SetTemplate,
  { containers }: ObservedLocalSet,
): Reason | undefined {
  const hindered = containers.find((seen) => seen.io?.hindrance !== undefined);
  if (!io || hindered?.io?.hindrance === undefined) return undefined;
  const text = `block I/O is not limited as the template says: ${hindered.io.hindrance}`;
  return { code: "io-not-limited", text, phase: "run" };
}

/** Whether something is held as it should be, as far as is known. */
export function isLimited(seen: Limits | undefined, wanted: Limits): boolean {
  if (!seen) return true;
  return (
    seen.cpuQuotaUs === wanted.cpuQuotaUs &&
    // A kernel with weights knows no finer differences.
    toCpuWeight(seen.cpuShares) === toCpuWeight(wanted.cpuShares) &&
    isSameMemory(seen.memoryBytes, wanted.memoryBytes) &&
    (seen.reservationBytes === undefined ||
      isSameMemory(seen.reservationBytes, wanted.reservationBytes ?? Infinity)) &&
    (seen.pidsMax === undefined || seen.pidsMax === wanted.pidsMax)
  );
}

/** The kernel rounds limits of memory down to pages, and has its own number for none. */
function isSameMemory(seenBytes: number, wantedBytes: number): boolean {
  return seenBytes === wantedBytes || Math.abs(seenBytes - wantedBytes) < pageBytesMax;
}

const pageBytesMax = 65_536;
