import { assert } from "../../lib/assert.ts";
import {
  type Dimension,
  dimensions,
  type HostSnapshot,
  type PoolPolicy,
  type RejectReason,
  type Resources,
} from "./model.ts";

/** Amounts in the order of `dimensions`. A Float64 is exact for integers below 2^53. */
export type Amounts = Float64Array;

export type FitResult =
  | { ok: true }
  | { ok: false; dimension: Dimension; reason: RejectReason; shortBy: number };

const shortName = {
  cpuMillis: "cpu",
  memoryBytes: "memory",
  volumeBytes: "volume",
  rootfsBytes: "rootfs",
} as const;

export function toAmounts(resources: Resources): Amounts {
  return Float64Array.of(
    resources.cpuMillis,
    resources.memoryBytes,
    resources.volumeBytes,
    resources.rootfsBytes,
  );
}

/**
 * Decides whether a set fits on a host (I2). `capacities` has the free amounts of the host from
 * `offset` on. A dimension of which 0 is requested never decides, even on an overbooked host.
 *
 * The planner calls it with its own amounts, and the commit of a plan calls it through `fitsHost`
 * with locked rows.
 */
export function fits(capacities: Amounts, offset: number, requested: Amounts): boolean {
  for (let d = 0; d < requested.length; d++) {
    const amount = requested[d] as number;
    if (amount > 0 && amount > (capacities[offset + d] as number)) return false;
  }
  return true;
}

/** Applies `fits` to one host. Names the first dimension that is short, and the reason. */
export function fitsHost(host: HostSnapshot, pool: PoolPolicy, requested: Resources): FitResult {
  if (fits(computeFreeCapacity(host, pool), 0, toAmounts(requested))) return { ok: true };
  for (const dimension of dimensions) {
    const reason = findShortage(host, pool, dimension, requested[dimension]);
    if (reason) return { ok: false, dimension, ...reason };
  }
  assert(false, "a set that does not fit is short of a dimension");
}

/**
 * Why `amount` does not fit in a dimension, or undefined. Prefers the shortage of bookings to that
 * of measured usage.
 */
export function findShortage(
  host: HostSnapshot,
  pool: PoolPolicy,
  dimension: Dimension,
  amount: number,
): { reason: RejectReason; shortBy: number } | undefined {
  if (amount === 0) return undefined;
  const reasons = shortageReasons(dimension);
  const booked = unbookedCapacity(host, pool, dimension);
  if (amount > booked) return { reason: reasons.insufficient, shortBy: amount - booked };
  const measured = unusedCapacity(host, pool, dimension);
  if (amount > measured) return { reason: reasons.aboveHighWater, shortBy: amount - measured };
  return undefined;
}

/** The reasons for a shortage of a dimension: bookings, or measured usage. */
export function shortageReasons(dimension: Dimension): {
  insufficient: RejectReason;
  aboveHighWater: RejectReason;
} {
  const name = shortName[dimension];
  return { insufficient: `insufficient-${name}`, aboveHighWater: `above-high-water-${name}` };
}

/** The amounts that a plan has booked on a host for one set. */
export interface Booking {
  rank: number;
  requested: Amounts;
}

/**
 * Returns the free capacity of a host: in each dimension the smaller of the unbooked and the unused
 * amount. An amount may be negative.
 */
export function computeFreeCapacity(host: HostSnapshot, pool: PoolPolicy): Amounts {
  const capacity = new Float64Array(dimensions.length);
  for (const [d, dimension] of dimensions.entries()) {
    capacity[d] = Math.min(
      unbookedCapacity(host, pool, dimension),
      unusedCapacity(host, pool, dimension),
    );
  }
  return capacity;
}

/** The amount below the overcommit limit that no booking takes. */
export function unbookedCapacity(
  host: HostSnapshot,
  pool: PoolPolicy,
  dimension: Dimension,
): number {
  return (
    Math.floor((host.allocatable[dimension] * pool.overcommitPercent[dimension]) / 100) -
    host.allocated[dimension]
  );
}

/**
 * The amount below the high-water mark that no measured usage takes. The host can purge trashed
 * volumes for new ones, so they count as unused. No booking contains them, because their bookings
 * ended with the set.
 */
export function unusedCapacity(host: HostSnapshot, pool: PoolPolicy, dimension: Dimension): number {
  const used = host.reported?.used[dimension] ?? 0;
  const reclaimable = dimension === "volumeBytes" ? host.reclaimableVolumeBytes : 0;
  return (
    Math.floor((host.allocatable[dimension] * pool.highWaterPercent[dimension]) / 100) -
    Math.max(0, used - reclaimable) -
    host.unreported[dimension]
  );
}
