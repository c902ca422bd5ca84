import { assert } from "../../lib/assert.ts";
import {
  type Dimension,
  dimensions,
  type HostSnapshot,
  type PoolPolicy,
  type RejectReason,
  type Resources,
} from "./model.ts";

/** Amounts in the order of `dimensions`, as the planner keeps them. Float64: exact for integers below 2^53. */
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

export function amountsOf(resources: Resources): Amounts {
  return Float64Array.of(
    resources.cpuMillis,
    resources.memoryBytes,
    resources.volumeBytes,
    resources.rootfsBytes,
  );
}

/**
 * The one decision of what fits (I2): the planner asks it of the rooms it keeps, commit asks it of locked rows by way of `fitsHost`.
 * Room is read from `rooms` at `offset`. A dimension of which nothing is asked never decides, even where a host is over-full.
 */
export function fits(rooms: Amounts, offset: number, ask: Amounts): boolean {
  for (let d = 0; d < ask.length; d++) {
    const asked = ask[d] as number;
    if (asked > 0 && asked > (rooms[offset + d] as number)) return false;
  }
  return true;
}

/** `fits` for one host as it stands, with what is short: the first dimension in order, by what binds it more tightly. */
export function fitsHost(host: HostSnapshot, pool: PoolPolicy, ask: Resources): FitResult {
  if (fits(roomOf(host, pool), 0, amountsOf(ask))) return { ok: true };
  for (const dimension of dimensions) {
    const reason = shortageOf(host, pool, dimension, ask[dimension]);
    if (reason) return { ok: false, dimension, ...reason };
  }
  assert(false, "what does not fit is short of something");
}

/** Why `asked` of a dimension does not fit; undefined when it does. Names the bookings when both limits are too low. */
export function shortageOf(
  host: HostSnapshot,
  pool: PoolPolicy,
  dimension: Dimension,
  asked: number,
): { reason: RejectReason; shortBy: number } | undefined {
  if (asked === 0) return undefined;
  const reasons = shortageReasons(dimension);
  const booked = bookableRoom(host, pool, dimension);
  if (asked > booked) return { reason: reasons.insufficient, shortBy: asked - booked };
  const measured = measuredRoom(host, pool, dimension);
  if (asked > measured) return { reason: reasons.aboveHighWater, shortBy: asked - measured };
  return undefined;
}

/** What a host may be short of in a dimension: of room to book, or of measured room. */
export function shortageReasons(dimension: Dimension): {
  insufficient: RejectReason;
  aboveHighWater: RejectReason;
} {
  const name = shortName[dimension];
  return { insufficient: `insufficient-${name}`, aboveHighWater: `above-high-water-${name}` };
}

/** What a plan has put on a host so far, one of these for each set. */
export interface Booking {
  rank: number;
  ask: Amounts;
}

/** Per dimension, the smaller of what bookings leave and what measured use leaves (DESIGN, 6). May be negative. */
export function roomOf(host: HostSnapshot, pool: PoolPolicy): Amounts {
  const room = new Float64Array(dimensions.length);
  for (const [d, dimension] of dimensions.entries()) {
    room[d] = Math.min(bookableRoom(host, pool, dimension), measuredRoom(host, pool, dimension));
  }
  return room;
}

export function bookableRoom(host: HostSnapshot, pool: PoolPolicy, dimension: Dimension): number {
  return (
    Math.floor((host.allocatable[dimension] * pool.overcommitPercent[dimension]) / 100) -
    host.allocated[dimension]
  );
}

/**
 * Trashed volumes are in the measured use and can be purged when room is needed, so they are taken off it. They are not
 * in the bookings: those ended when the volume was trashed.
 */
export function measuredRoom(host: HostSnapshot, pool: PoolPolicy, dimension: Dimension): number {
  const used = host.reported?.used[dimension] ?? 0;
  const reclaimable = dimension === "volumeBytes" ? host.reclaimableVolumeBytes : 0;
  return (
    Math.floor((host.allocatable[dimension] * pool.highWaterPercent[dimension]) / 100) -
    Math.max(0, used - reclaimable) -
    host.placedSinceReport[dimension]
  );
}
