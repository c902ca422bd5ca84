import { type Bitmap, hasBit } from "./bitmap.ts";
import type { Fleet } from "./fleet.ts";
import { DIMENSION_COUNT, type HostTable } from "./host-table.ts";
import type { PlacementRequest } from "./model.ts";

/** Full marks of each part; integers, so that totals are exact. Packing outweighs the rest together. */
export const PACKING_SCORE_MAX = 1_000_000;
const IMAGES_SCORE_MAX = 150_000;
const SAME_HOST_SCORE = 200_000;
const SAME_RACK_SCORE = 120_000;
const SAME_ZONE_SCORE = 60_000;

/**
 * How full a host would be with `ask` on it, of PACKING_SCORE_MAX: one minus the product of the free shares of all dimensions that
 * the host has. The product is the volume of what is left, in units of the host: the smallest leftover wins,
 * and a host that would be used up in one dimension counts as full, as nobody can use the rest of it.
 *
 * The packing benchmark measures it beside first fit, least and most allocated, Nomad's best fit and dot product. A plain sum of
 * shares cannot see that a leftover of one dimension alone is worth nothing.
 */
export function fullness(table: HostTable, rank: number, ask: Float64Array): number {
  const base = rank * DIMENSION_COUNT;
  let left = 1;
  for (let d = 0; d < DIMENSION_COUNT; d++) {
    const perUnit = table.sharesPerUnit[base + d] as number;
    if (perUnit === 0) continue;
    const free = (table.rooms[base + d] as number) - (ask[d] as number);
    left *= free <= 0 ? 0 : free * perUnit;
  }
  // Overcommit makes the free share larger than 1, which counts as empty.
  return Math.max(0, Math.floor(PACKING_SCORE_MAX * (1 - left)));
}

/** What images and neighbours add to a host's score, for one request shape. */
export interface Preferences {
  /** Hosts that one of the preferences speaks for: they are looked at whatever their fullness. Undefined: there is none. */
  readonly preferred: Bitmap | undefined;
  images(rank: number): number;
  affinity(rank: number): number;
}

export function preparePreferences(
  fleet: Fleet,
  table: HostTable,
  request: Pick<PlacementRequest, "images" | "constraints">,
): Preferences {
  const holders = request.images.map((image) => table.holdersOf(image));
  const neighbours = neighboursOf(fleet, table, request.constraints.affinity);
  const known = holders.filter((bitmap) => bitmap !== undefined);
  const preferred = neighbours?.close ?? (known.length > 0 ? union(known) : undefined);
  return {
    preferred,
    images(rank) {
      if (known.length === 0) return 0;
      const held = known.filter((bitmap) => hasBit(bitmap, rank)).length;
      return Math.floor((IMAGES_SCORE_MAX * held) / request.images.length);
    },
    affinity(rank) {
      if (!neighbours) return 0;
      if (neighbours.hosts.has(rank)) return SAME_HOST_SCORE;
      if (neighbours.racks.has(table.racks.of[rank] as number)) return SAME_RACK_SCORE;
      return neighbours.zones.has(table.zones.of[rank] as number) ? SAME_ZONE_SCORE : 0;
    },
  };
}

interface Neighbours {
  hosts: Set<number>;
  racks: Set<number>;
  zones: Set<number>;
  /** The hosts themselves and those of their racks. */
  close: Bitmap;
}

/** Where the sets of the named services stand; undefined when there are none. */
function neighboursOf(
  fleet: Fleet,
  table: HostTable,
  serviceIds: readonly string[],
): Neighbours | undefined {
  const hosts = new Set<number>();
  for (const serviceId of serviceIds) {
    for (const hostId of fleet.hostsOfService(serviceId).keys()) {
      const rank = table.rankOf.get(hostId);
      if (rank !== undefined) hosts.add(rank);
    }
  }
  if (hosts.size === 0) return undefined;
  const racks = new Set([...hosts].map((rank) => table.racks.of[rank] as number));
  const zones = new Set([...hosts].map((rank) => table.zones.of[rank] as number));
  const close = new Uint32Array(Math.ceil(table.hosts.length / 32));
  for (let rank = 0; rank < table.hosts.length; rank++) {
    if (!racks.has(table.racks.of[rank] as number)) continue;
    close[rank >>> 5] = (close[rank >>> 5] as number) | (1 << (rank & 31));
  }
  return { hosts, racks, zones, close };
}

function union(bitmaps: readonly Bitmap[]): Bitmap {
  const [first, ...others] = bitmaps;
  const all = (first as Bitmap).slice();
  for (const other of others)
    for (let i = 0; i < all.length; i++) all[i] = (all[i] as number) | (other[i] as number);
  return all;
}
