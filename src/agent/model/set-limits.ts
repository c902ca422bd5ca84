import type { Reason } from "../../contracts/common/primitives.ts";
import {
  containerMemoryBytes,
  type IoLimits,
  type SetTemplate,
} from "../../contracts/api/set-template.ts";
import type { Limits, ObservedIo, ObservedLocalSet } from "./local-set.ts";

export const CPU_PERIOD_US = 100_000;
/** The kernel's default, which Docker denotes by 0. */
export const CPU_SHARES_PER_CORE = 1_024;
/** The kernel's smallest quota. */
const quotaUsMin = 1_000;
/** Limit of processes and threads of a set, so that a fork bomb leaves enough for the machine. */
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

/** Bounds of the kernel and of Docker. */
const cpuSharesMin = 2;
const cpuSharesMax = 262_144;

/**
 * Converts shares to weights of cgroups version 2 (1 to 10000), as runc before 1.3.2 and crun
 * before 1.23 do for containers. Berth converts the shares of sets in this way.
 */
export function toCpuWeight(shares: number): number {
  return 1 + Math.floor(((shares - cpuSharesMin) * 9_999) / (cpuSharesMax - cpuSharesMin));
}

/**
 * Converts shares to weights as runc since 1.3.2 and crun since 1.23 do. Their curve maps the
 * kernel's default shares (1024) to its default weight (100).
 */
function toCurvedCpuWeight(shares: number): number {
  if (shares <= cpuSharesMin) return 1;
  if (shares >= cpuSharesMax) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** The lowest shares of a weight, so that a conversion there and back gives the same weight. */
export function toCpuShares(weight: number): number {
  return Math.ceil(cpuSharesMin + ((weight - 1) * (cpuSharesMax - cpuSharesMin)) / 9_999);
}

export function setLimits({ cpuMillis, memoryBytes }: Amounts): Limits {
  return toLimits({ cpuMillis, memoryBytes, pidsMax: SET_PIDS_MAX });
}

/** The smallest reservation that Docker accepts. */
const reservationBytesMin = 6 * 2 ** 20;

/**
 * Reserves half of the memory. The kernel reclaims a reservation only if it has nothing else. So
 * page cache beyond it gives way before the memory of Docker and of the machine's services.
 */
export function memoryReservation(memoryBytes: number): number {
  return Math.min(memoryBytes, Math.max(reservationBytesMin, Math.floor(memoryBytes / 2)));
}

function toLimits({ cpuMillis, memoryBytes, pidsMax }: Amounts & { pidsMax: number }): Limits {
  return {
    cpuQuotaUs: cpuQuotaUs(cpuMillis),
    cpuShares: cpuShares(cpuMillis),
    memoryBytes,
    reservationBytes: memoryReservation(memoryBytes),
    pidsMax,
  };
}

/**
 * The larger of `seen` and `wanted`. A set needs it while some of its containers have their
 * previous limits.
 */
export function widenedLimits(seen: Limits | undefined, wanted: Limits): Limits {
  if (!seen) return wanted;
  return {
    ...wanted,
    cpuQuotaUs: Math.max(seen.cpuQuotaUs, wanted.cpuQuotaUs),
    memoryBytes: Math.max(seen.memoryBytes, wanted.memoryBytes),
  };
}

/** `limits` with the memory of `other`. */
export function withMemoryOf(limits: Limits, other: Limits): Limits {
  const { memoryBytes, reservationBytes } = other;
  return { ...limits, memoryBytes, reservationBytes };
}

/** Limits of a business container: its percentages of the set, in whole microseconds and bytes. */
export function containerLimits(
  template: Amounts,
  { cpuPercent, memoryPercent }: { cpuPercent: number; memoryPercent: number },
): Limits {
  return toLimits({
    cpuMillis: (template.cpuMillis * cpuPercent) / 100,
    memoryBytes: containerMemoryBytes(template, { memoryPercent }),
    pidsMax: containerPidsMax,
  });
}

/**
 * True if a set has the limits and the volume size of its template. An unknown value counts as
 * applied.
 */
export function areLimitsApplied(template: SetTemplate, observed: ObservedLocalSet): boolean {
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

/** True if every device that supports limits has the wanted ones. */
export function isIoLimited(seen: ObservedIo | undefined, wanted: IoLimits = {}): boolean {
  return (seen?.limits ?? []).every((limits) =>
    ioLimitNames.every((name) => (limits[name] ?? Infinity) === (wanted[name] ?? Infinity)),
  );
}

/**
 * The reason why the kernel does not enforce all block I/O limits; undefined if it does, or if that
 * is unknown.
 */
export function ioUnenforceableReason(
  { io }: SetTemplate,
  { containers }: ObservedLocalSet,
): Reason | undefined {
  const unenforced = containers.find((seen) => seen.io?.unenforceableReason !== undefined);
  if (!io || unenforced?.io?.unenforceableReason === undefined) return undefined;
  const text = `the kernel does not enforce the template's block I/O limits: ${unenforced.io.unenforceableReason}`;
  return { code: "io-not-limited", text, phase: "run" };
}

/** True if the observed limits equal the wanted ones. Unknown limits count as equal. */
export function isLimited(seen: Limits | undefined, wanted: Limits): boolean {
  if (!seen) return true;
  return (
    isMemoryAndQuotaLimited(seen, wanted) &&
    isSameCpuShare(seen, wanted.cpuShares) &&
    (seen.reservationBytes === undefined ||
      isSameMemory(seen.reservationBytes, wanted.reservationBytes ?? Infinity)) &&
    (seen.pidsMax === undefined || seen.pidsMax === wanted.pidsMax)
  );
}

/**
 * True if the observed memory limit and CPU quota equal the wanted ones. They separate sets, while
 * the other limits may differ between kernels and container runtimes.
 */
export function isMemoryAndQuotaLimited(seen: Limits | undefined, wanted: Limits): boolean {
  if (!seen) return true;
  return (
    seen.cpuQuotaUs === wanted.cpuQuotaUs && isSameMemory(seen.memoryBytes, wanted.memoryBytes)
  );
}

/**
 * The kernel's weight is right for both conversions of the shares, because the container runtime
 * chooses one. The curve may differ by one, because floating-point numbers are rounded up.
 */
function isSameCpuShare({ cpuShares, cpuWeight }: Limits, wantedShares: number): boolean {
  if (cpuWeight === undefined) return toCpuWeight(cpuShares) === toCpuWeight(wantedShares);
  return (
    cpuWeight === toCpuWeight(wantedShares) ||
    Math.abs(cpuWeight - toCurvedCpuWeight(wantedShares)) <= 1
  );
}

/** The kernel rounds memory limits down to pages and has its own number for no limit. */
function isSameMemory(seenBytes: number, wantedBytes: number): boolean {
  return seenBytes === wantedBytes || Math.abs(seenBytes - wantedBytes) < pageBytesMax;
}

const pageBytesMax = 65_536;
