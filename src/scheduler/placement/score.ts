import { addBits, type Bitmap, hasBit, newBitmap, setBit } from "./bitmap.ts";
import type { Fleet } from "./fleet.ts";
import { DIMENSION_COUNT, type HostTable, type Numbering } from "./host-table.ts";
import type { PlacementRequest } from "./model.ts";

/**
 * The maximum of each part of a score. Integers, so that sums are exact. Packing outweighs all
 * others together.
 */
export const PACKING_SCORE_MAX = 1_000_000;
const IMAGES_SCORE_MAX = 150_000;
const SAME_HOST_SCORE = 200_000;
const SAME_RACK_SCORE = 120_000;
const SAME_ZONE_SCORE = 60_000;

/**
 * How full a host is with `requested` on it, from 0 to PACKING_SCORE_MAX. The result is one minus
 * the product of the free shares of all dimensions of the host. The product is the volume of the
 * rest in units of the host, and the smallest rest wins. A host without capacity in one dimension
 * counts as full, because no set can use its rest.
 *
 * The packing benchmark compares it with first fit, least and most allocated, best fit of Nomad,
 * and dot product. A sum of the shares ignores that a rest in only one dimension has no use.
 */
export function fullness(table: HostTable, rank: number, requested: Float64Array): number {
  const base = rank * DIMENSION_COUNT;
  let freeShare = 1;
  for (let d = 0; d < DIMENSION_COUNT; d++) {
    const perUnit = table.sharesPerUnit[base + d] as number;
    if (perUnit === 0) continue;
    const free = (table.capacities[base + d] as number) - (requested[d] as number);
    freeShare *= free <= 0 ? 0 : free * perUnit;
  }
  // Overcommit makes the free share larger than 1, which counts as empty.
  return Math.max(0, Math.floor(PACKING_SCORE_MAX * (1 - freeShare)));
}

/** The score of images and neighbor services on a host, for one shape. */
export interface Preferences {
  /**
   * The preferred hosts, strongest preference first. The planner compares some of each kind,
   * because the walk for packing may visit none of them.
   */
  readonly preferred: readonly Bitmap[];
  images(rank: number): number;
  affinity(rank: number): number;
  /** Records that this plan has placed a set of a neighbor service on a host. */
  notePlaced(serviceId: string, rank: number): void;
}

export function preparePreferences(
  fleet: Fleet,
  table: HostTable,
  request: Pick<PlacementRequest, "images" | "constraints">,
): Preferences {
  const holders = request.images.flatMap((image) => table.findHolders(image) ?? []);
  const { affinity } = request.constraints;
  const neighbors = affinity.length === 0 ? undefined : new Neighbors(fleet, table, affinity);
  const preferred = neighbors ? [...neighbors.places] : [];
  if (holders.length > 0) preferred.push(union(holders));
  return {
    preferred,
    images(rank) {
      if (holders.length === 0) return 0;
      const held = holders.filter((bitmap) => hasBit(bitmap, rank)).length;
      return Math.floor((IMAGES_SCORE_MAX * held) / request.images.length);
    },
    affinity: (rank) => neighbors?.computeScore(rank) ?? 0,
    notePlaced(serviceId, rank) {
      if (affinity.includes(serviceId)) neighbors?.add(rank);
    },
  };
}

/**
 * The hosts of the named services, and the hosts near them. The placements of the plan add to both.
 */
class Neighbors {
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
      for (const hostId of fleet.countSetsByHost(serviceId).keys()) {
        const rank = table.rankById.get(hostId);
        if (rank !== undefined) this.add(rank);
      }
    }
  }

  /** The nearest hosts first. */
  get places(): readonly Bitmap[] {
    return [this.#hosts, this.#inRacks, this.#inZones];
  }

  add(rank: number): void {
    setBit(this.#hosts, rank);
    this.#addAround(this.#inRacks, this.#table.racks, rank);
    this.#addAround(this.#inZones, this.#table.zones, rank);
  }

  computeScore(rank: number): number {
    if (hasBit(this.#hosts, rank)) return SAME_HOST_SCORE;
    if (hasBit(this.#inRacks, rank)) return SAME_RACK_SCORE;
    return hasBit(this.#inZones, rank) ? SAME_ZONE_SCORE : 0;
  }

  #addAround(near: Bitmap, places: Numbering, rank: number): void {
    if (!hasBit(near, rank)) addBits(near, places.getHosts(places.byRank[rank] as number));
  }
}

function union(bitmaps: readonly Bitmap[]): Bitmap {
  const [first, ...others] = bitmaps;
  const all = (first as Bitmap).slice();
  for (const other of others) addBits(all, other);
  return all;
}
