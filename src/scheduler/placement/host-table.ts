import { assert } from "../../lib/assert.ts";
import { type Bitmap, changeBit, clearBit, newBitmap, setBit } from "./bitmap.ts";
import { computeFreeCapacity } from "./fits.ts";
import {
  dimensions,
  type HostSnapshot,
  NETWORKS_FEATURE,
  type PlanPolicy,
  type PoolPolicy,
  type RejectReason,
} from "./model.ts";
import { createCapacityIndex, type CapacityIndex } from "./capacity-index.ts";

export const DIMENSION_COUNT = dimensions.length;

/** Numbers for names, in the order of the names. They do not depend on the order of the hosts. */
export interface Numbering {
  /** The number of each host, by its rank. */
  readonly byRank: Int32Array;
  readonly count: number;
  /** The number of hosts with each number. */
  readonly sizes: Int32Array;
  /** Returns the hosts with a number. Creates the bitmap at the first call. */
  getHosts(number: number): Bitmap;
}

/** Hosts that match a description: a pool, labels and tolerated taints. */
export interface Eligible {
  readonly hosts: Bitmap;
  /** The number of hosts that each permanent reason rules out. */
  readonly against: ReadonlyMap<RejectReason, number>;
}

/**
 * The hosts as columns, in the order of their ids: the rank of a host is its position. Amounts and
 * readiness change in place. A change of the hosts, or of a pool, zone, rack, label or taint, needs
 * a new table, which is rare.
 */
export interface HostTable {
  readonly hosts: readonly HostSnapshot[];
  readonly rankById: ReadonlyMap<string, number>;
  /** Free capacity: DIMENSION_COUNT amounts of each host, from rank x DIMENSION_COUNT on. */
  readonly capacities: Float64Array;
  /** The time of the last report of each host, by rank. -Infinity without a report. */
  readonly reportedAtMs: Float64Array;
  /** The number of sets on each host, by rank. */
  readonly setCounts: Int32Array;
  /** The maximum number of sets on each host, by rank. */
  readonly setLimits: Float64Array;
  /** The hosts that connect sets to networks. */
  readonly networked: Bitmap;
  /** Counts the hosts with the maximum number of sets. */
  countCrowded(): number;
  /** The reciprocal of each allocatable amount, or 0 for an amount of 0. Scores multiply by it. */
  readonly sharesPerUnit: Float64Array;
  readonly zones: Numbering;
  readonly racks: Numbering;
  /** The indexes of the ready hosts of a pool, one for each dimension. */
  findIndexes(pool: string): readonly CapacityIndex[] | undefined;
  /** The ready hosts with an image, or undefined without such a host. */
  findHolders(image: string): Bitmap | undefined;
  /** The eligible hosts by description. The table never removes an entry. */
  readonly eligible: Map<string, Eligible>;
  /**
   * Applies changed amounts, readiness, report, images or features. Returns false if the host needs
   * a new table.
   */
  update(host: HostSnapshot): boolean;
  /**
   * With sign -1, subtracts the amounts of a new set from a host, and counts the set. Sign 1
   * reverts this.
   */
  addCapacity(rank: number, amounts: Float64Array, sign: 1 | -1): void;
  /** Counts sets that start on a host or leave it. */
  addSets(hostId: string, change: 1 | -1): void;
}

export function createHostTable(
  unsorted: Iterable<HostSnapshot>,
  policy: PlanPolicy,
  setsOnHost: ReadonlyMap<string, number>,
): HostTable {
  const hosts = [...unsorted].sort((a, b) => (a.id < b.id ? -1 : 1));
  const rankById = new Map(hosts.map((host, rank) => [host.id, rank]));
  const capacities = new Float64Array(hosts.length * DIMENSION_COUNT);
  const sharesPerUnit = new Float64Array(hosts.length * DIMENSION_COUNT);
  const reportedAtMs = new Float64Array(hosts.length);
  const { indexes, indexesFor } = createPoolIndexes(hosts.length);
  const pools = new Map(policy.pools.map((pool) => [pool.pool, pool]));
  const networked = newBitmap(hosts.length);
  const sets = new SetCounter(hosts, setsOnHost, policy.setsPerHostMax);
  let holders: Map<string, Bitmap> | undefined;

  /** Computes the row of a host. An unready host is in no index, so no walk visits it. */
  function fill(rank: number, host: HostSnapshot, wasReady: boolean): void {
    const capacity = computeFreeCapacity(host, getPoolPolicy(pools, host.pool));
    const ofPool = indexesFor(host.pool);
    changeBit(networked, rank, host.features.includes(NETWORKS_FEATURE));
    reportedAtMs[rank] = host.reported?.atMs ?? Number.NEGATIVE_INFINITY;
    for (const [d, dimension] of dimensions.entries()) {
      capacities[rank * DIMENSION_COUNT + d] = capacity[d] as number;
      const allocatable = host.allocatable[dimension];
      sharesPerUnit[rank * DIMENSION_COUNT + d] = allocatable === 0 ? 0 : 1 / allocatable;
      const index = ofPool[d] as CapacityIndex;
      if (host.readiness !== "ready") index.remove(rank);
      else if (wasReady) index.move(rank, capacity[d] as number);
      else index.insert(rank, capacity[d] as number);
    }
  }

  for (const [rank, host] of hosts.entries()) fill(rank, host, false);

  return {
    hosts,
    rankById,
    capacities,
    sharesPerUnit,
    reportedAtMs,
    setCounts: sets.counts,
    setLimits: sets.limits,
    networked,
    countCrowded: () => sets.crowded,
    zones: numberBy(hosts, (host) => host.zone),
    // Racks of two zones may have one name.
    racks: numberBy(hosts, (host) => `${host.zone}\n${host.rack}`),
    findIndexes: (pool) => indexes.get(pool),
    eligible: new Map<string, Eligible>(),
    findHolders(image) {
      holders ??= holdersByImage(hosts);
      return holders.get(image);
    },
    update(host) {
      const rank = rankById.get(host.id);
      const before = rank === undefined ? undefined : hosts[rank];
      if (rank === undefined || !before || !isSameHost(before, host)) return false;
      hosts[rank] = host;
      fill(rank, host, before.readiness === "ready");
      sets.limit(rank, host);
      if (before.readiness !== host.readiness || !isSameList(before.features, host.features))
        this.eligible.clear();
      if (holders) updateHolders(holders, { rank, hostCount: hosts.length, before, after: host });
      return true;
    },
    addSets: (hostId, change) => sets.add(rankById.get(hostId), change),
    addCapacity(rank, amounts, sign) {
      sets.add(rank, -sign);
      const ofPool = indexesFor((hosts[rank] as HostSnapshot).pool);
      for (let d = 0; d < DIMENSION_COUNT; d++) {
        const amount = amounts[d] as number;
        if (amount === 0) continue;
        const capacity = (capacities[rank * DIMENSION_COUNT + d] as number) + sign * amount;
        capacities[rank * DIMENSION_COUNT + d] = capacity;
        (ofPool[d] as CapacityIndex).move(rank, capacity);
      }
    },
  };
}

/** Indexes of each pool, one for each dimension. The first host of a pool creates them. */
function createPoolIndexes(hostCount: number) {
  const indexes = new Map<string, CapacityIndex[]>();
  return {
    indexes,
    indexesFor(this: void, pool: string): CapacityIndex[] {
      let found = indexes.get(pool);
      if (!found) {
        found = dimensions.map(() => createCapacityIndex(hostCount));
        indexes.set(pool, found);
      }
      return found;
    },
  };
}

/** Counts the sets of each host, and the hosts with the maximum number of sets. */
class SetCounter {
  readonly counts: Int32Array;
  readonly limits: Float64Array;
  readonly #perHostMax: number;
  crowded = 0;

  constructor(
    hosts: readonly HostSnapshot[],
    setsOnHost: ReadonlyMap<string, number>,
    perHostMax: number,
  ) {
    this.counts = Int32Array.from(hosts, ({ id }) => setsOnHost.get(id) ?? 0);
    this.#perHostMax = perHostMax;
    this.limits = Float64Array.from(hosts, (host) => this.#limitOf(host));
    for (const rank of hosts.keys()) this.crowded += this.#isCrowded(rank);
  }

  /** Applies a changed limit of a host. */
  limit(rank: number, host: HostSnapshot): void {
    this.crowded -= this.#isCrowded(rank);
    this.limits[rank] = this.#limitOf(host);
    this.crowded += this.#isCrowded(rank);
  }

  /** Does nothing without a rank: the host is not in the table. */
  add(rank: number | undefined, change: number): void {
    if (rank === undefined) return;
    this.crowded -= this.#isCrowded(rank);
    this.counts[rank] = (this.counts[rank] as number) + change;
    this.crowded += this.#isCrowded(rank);
  }

  #limitOf({ setsMax }: HostSnapshot): number {
    return Math.min(this.#perHostMax, setsMax);
  }

  #isCrowded(rank: number): number {
    return Number((this.counts[rank] as number) >= (this.limits[rank] as number));
  }
}

export function getPoolPolicy(pools: ReadonlyMap<string, PoolPolicy>, name: string): PoolPolicy {
  const found = pools.get(name);
  assert(found, `host pool ${name} has no policy`);
  return found;
}

function numberBy(
  hosts: readonly HostSnapshot[],
  getName: (host: HostSnapshot) => string,
): Numbering {
  const names = [...new Set(hosts.map(getName))].sort();
  const numbers = new Map(names.map((name, number) => [name, number]));
  const byRank = Int32Array.from(hosts, (host) => numbers.get(getName(host)) ?? 0);
  const sizes = new Int32Array(names.length);
  for (const number of byRank) sizes[number] = (sizes[number] as number) + 1;
  const bitmaps = new Map<number, Bitmap>();
  return {
    byRank,
    count: names.length,
    sizes,
    getHosts(number) {
      let bitmap = bitmaps.get(number);
      if (!bitmap) {
        bitmap = newBitmap(hosts.length);
        for (let rank = 0; rank < byRank.length; rank++)
          if (byRank[rank] === number) setBit(bitmap, rank);
        bitmaps.set(number, bitmap);
      }
      return bitmap;
    },
  };
}

function holdersByImage(hosts: readonly HostSnapshot[]): Map<string, Bitmap> {
  const holders = new Map<string, Bitmap>();
  for (const [rank, host] of hosts.entries())
    for (const image of offeredImages(host)) addHolder(holders, image, rank, hosts.length);
  return holders;
}

/** The images that count for placements. A host that takes no sets offers none. */
function offeredImages(host: HostSnapshot): readonly string[] {
  return host.readiness === "ready" ? host.images : [];
}

/** Changes the entries of one host. A new map would read all hosts and their images. */
function updateHolders(
  holders: Map<string, Bitmap>,
  change: { rank: number; hostCount: number; before: HostSnapshot; after: HostSnapshot },
): void {
  const { rank, hostCount } = change;
  const before = offeredImages(change.before);
  const after = offeredImages(change.after);
  if (isSameList(before, after)) return;
  const held = new Set(after);
  for (const image of before) {
    const bitmap = held.has(image) ? undefined : holders.get(image);
    if (!bitmap) continue;
    clearBit(bitmap, rank);
    if (bitmap.every((word) => word === 0)) holders.delete(image);
  }
  for (const image of after) addHolder(holders, image, rank, hostCount);
}

function addHolder(
  holders: Map<string, Bitmap>,
  image: string,
  rank: number,
  hostCount: number,
): void {
  let bitmap = holders.get(image);
  if (!bitmap) holders.set(image, (bitmap = newBitmap(hostCount)));
  setBit(bitmap, rank);
}

function isSameHost(a: HostSnapshot, b: HostSnapshot): boolean {
  return (
    a.pool === b.pool &&
    a.zone === b.zone &&
    a.rack === b.rack &&
    isSameRecord(a.labels, b.labels) &&
    a.taints.length === b.taints.length &&
    a.taints.every(
      (taint, i) => taint.key === b.taints[i]?.key && taint.value === b.taints[i].value,
    )
  );
}

/** Compares the contents, because each read of a host creates a new list. */
function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((value, i) => value === b[i]));
}

function isSameRecord(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
