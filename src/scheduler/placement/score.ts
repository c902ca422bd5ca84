import { addBits, type Bitmap, hasBit, newBitmap, setBit } from "./bitmap.ts";
import type { Fleet } from "./fleet.ts";
import { DIMENSION_COUNT, type HostTable, type Numbering } from "./host-table.ts";
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
  /**
   * Hosts that a preference speaks for, the strongest first: of each kind some are looked at whatever their fullness, as
   * none need be among those that packing looks at.
   */
  readonly preferred: readonly Bitmap[];
  images(rank: number): number;
  affinity(rank: number): number;
  /** A set of a service that is to be near went to this host in this plan. */
  notePlaced(serviceId: string, rank: number): void;
}

export function preparePreferences(
  fleet: Fleet,
  table: HostTable,
  request: Pick<PlacementRequest, "images" | "constraints">,
): Preferences {
  const holders = request.images.flatMap((image) => table.holdersOf(image) ?? []);
  const { affinity } = request.constraints;
  const neighbours = affinity.length === 0 ? undefined : new Neighbours(fleet, table, affinity);
  const preferred = neighbours ? [...neighbours.places] : [];
  if (holders.length > 0) preferred.push(union(holders));
  return {
    preferred,
    images(rank) {
      if (holders.length === 0) return 0;
      const held = holders.filter((bitmap) => hasBit(bitmap, rank)).length;
      return Math.floor((IMAGES_SCORE_MAX * held) / request.images.length);
    },
    affinity: (rank) => neighbours?.scoreOf(rank) ?? 0,
    notePlaced(serviceId, rank) {
      if (affinity.includes(serviceId)) neighbours?.add(rank);
    },
  };
}

/** Where the sets of the named services stand, and what is near them; grows with the placements of the plan. */
class Neighbours {
  readonly #table: HostTable;
  readonly #hosts: Bitmap;
  readonly #inRacks: Bitmap;
  readonly #inZones: Bitmap;

  constructor(fleet: Fleet, table: HostTable, serviceIds: readonly string[]) {
    this.#table = table;
    this.#hosts = newBitmap(table.hosts.length);
    this.#inRacks = newBitmap(table.hosts.length);
    this.#inZones = newBitmap(table.hosts.length);
    for (const serviceId of serviceIds) {
      for (const hostId of fleet.hostsOfService(serviceId).keys()) {
        const rank = table.rankOf.get(hostId);
        if (rank !== undefined) this.add(rank);
      }
    }
  }

  /** The nearest first. */
  get places(): readonly Bitmap[] {
    return [this.#hosts, this.#inRacks, this.#inZones];
  }

  add(rank: number): void {
    setBit(this.#hosts, rank);
    this.#addAround(this.#inRacks, this.#table.racks, rank);
    this.#addAround(this.#inZones, this.#table.zones, rank);
  }

  scoreOf(rank: number): number {
    if (hasBit(this.#hosts, rank)) return SAME_HOST_SCORE;
    if (hasBit(this.#inRacks, rank)) return SAME_RACK_SCORE;
    return hasBit(this.#inZones, rank) ? SAME_ZONE_SCORE : 0;
  }

  #addAround(near: Bitmap, places: Numbering, rank: number): void {
    if (!hasBit(near, rank)) addBits(near, places.hostsOf(places.of[rank] as number));
  }
}

function union(bitmaps: readonly Bitmap[]): Bitmap {
  const [first, ...others] = bitmaps;
  const all = (first as Bitmap).slice();
  for (const other of others) addBits(all, other);
  return all;
}
