import { assert } from "../../lib/assert.ts";
import { type Bitmap, clearBit, newBitmap, setBit } from "./bitmap.ts";
import { roomOf } from "./fits.ts";
import {
  dimensions,
  type HostSnapshot,
  type PlanPolicy,
  type PoolPolicy,
  type RejectReason,
} from "./model.ts";
import { createRoomIndex, type RoomIndex } from "./room-index.ts";

export const DIMENSION_COUNT = dimensions.length;

/** Names as small integers, in order of name, so that the numbers do not depend on who came first. */
export interface Numbering {
  /** By rank of the host. */
  readonly of: Int32Array;
  readonly count: number;
  /** How many hosts have each number. */
  readonly sizes: Int32Array;
  /** The hosts with a number; made when it is first asked for. */
  hostsOf(number: number): Bitmap;
}

/** Hosts that answer to one description: a pool, labels, and tolerated taints. */
export interface Eligible {
  readonly hosts: Bitmap;
  /** On how many hosts each reason holds that rules out the others, whatever else is placed. */
  readonly against: ReadonlyMap<RejectReason, number>;
}

/**
 * The hosts as columns, in order of their ids: a host's rank is its position. Made anew when hosts come or go or change what they
 * are (pool, zone, rack, labels, taints), which is rare; amounts and readiness change in place.
 */
export interface HostTable {
  readonly hosts: readonly HostSnapshot[];
  readonly rankOf: ReadonlyMap<string, number>;
  /** DIMENSION_COUNT each, at rank x DIMENSION_COUNT. */
  readonly rooms: Float64Array;
  /** When each host last reported, by rank; -Infinity: it never did. */
  readonly reportedAtMs: Float64Array;
  /** Sets on each host, by rank. */
  readonly setCounts: Int32Array;
  /** Hosts that have as many sets as they may. */
  countCrowded(): number;
  /** One over what is allocatable, 0 where nothing is: multiplying is what scores are made of. */
  readonly sharesPerUnit: Float64Array;
  readonly zones: Numbering;
  readonly racks: Numbering;
  /** Room of the ready hosts of a pool, an index a dimension. */
  indexesOf(pool: string): readonly RoomIndex[] | undefined;
  /** Ready hosts that hold an image; undefined when none does. */
  holdersOf(image: string): Bitmap | undefined;
  /** By description, kept as long as the table is. */
  readonly eligible: Map<string, Eligible>;
  /** Takes in changed amounts, readiness, report or images. False: it is another host now, make the table anew. */
  update(host: HostSnapshot): boolean;
  /** Takes a set's `amounts` off a host's room, and its place; with sign 1 it gives both back. */
  addRoom(rank: number, amounts: Float64Array, sign: 1 | -1): void;
  /** Counts sets that came to a host, or left it. */
  addSets(hostId: string, change: 1 | -1): void;
}

export function createHostTable(
  unsorted: Iterable<HostSnapshot>,
  policy: PlanPolicy,
  setsOnHost: ReadonlyMap<string, number>,
): HostTable {
  const hosts = [...unsorted].sort((a, b) => (a.id < b.id ? -1 : 1));
  const rankOf = new Map(hosts.map((host, rank) => [host.id, rank]));
  const rooms = new Float64Array(hosts.length * DIMENSION_COUNT);
  const sharesPerUnit = new Float64Array(hosts.length * DIMENSION_COUNT);
  const reportedAtMs = new Float64Array(hosts.length);
  const { indexes, indexesFor } = createPoolIndexes(hosts.length);
  const pools = new Map(policy.pools.map((pool) => [pool.pool, pool]));
  const eligible = new Map<string, Eligible>();
  const sets = new SetCounter(hosts, setsOnHost, policy.setsPerHostMax);
  let holders: Map<string, Bitmap> | undefined;

  /** Computes a host's row; a host that is not ready is in no index, so that no walk meets it. */
  function fill(rank: number, host: HostSnapshot, wasReady: boolean): void {
    const room = roomOf(host, poolPolicyOf(pools, host.pool));
    const ofPool = indexesFor(host.pool);
    reportedAtMs[rank] = host.reported?.atMs ?? Number.NEGATIVE_INFINITY;
    for (const [d, dimension] of dimensions.entries()) {
      rooms[rank * DIMENSION_COUNT + d] = room[d] as number;
      const allocatable = host.allocatable[dimension];
      sharesPerUnit[rank * DIMENSION_COUNT + d] = allocatable === 0 ? 0 : 1 / allocatable;
      const index = ofPool[d] as RoomIndex;
      if (host.readiness !== "ready") index.remove(rank);
      else if (wasReady) index.move(rank, room[d] as number);
      else index.insert(rank, room[d] as number);
    }
  }

  for (const [rank, host] of hosts.entries()) fill(rank, host, false);

  return {
    hosts,
    rankOf,
    rooms,
    sharesPerUnit,
    reportedAtMs,
    setCounts: sets.counts,
    countCrowded: () => sets.crowded,
    zones: numberBy(hosts, (host) => host.zone),
    // A rack is one within its zone.
    racks: numberBy(hosts, (host) => `${host.zone}\n${host.rack}`),
    indexesOf: (pool) => indexes.get(pool),
    eligible,
    holdersOf(image) {
      holders ??= holdersByImage(hosts);
      return holders.get(image);
    },
    update(host) {
      const rank = rankOf.get(host.id);
      const before = rank === undefined ? undefined : hosts[rank];
      if (rank === undefined || !before || !isSameHost(before, host)) return false;
      hosts[rank] = host;
      fill(rank, host, before.readiness === "ready");
      if (before.readiness !== host.readiness) eligible.clear();
      if (holders) updateHolders(holders, { rank, hostCount: hosts.length, before, after: host });
      return true;
    },
    addSets(hostId, change) {
      const rank = rankOf.get(hostId);
      if (rank !== undefined) sets.add(rank, change);
    },
    addRoom(rank, amounts, sign) {
      sets.add(rank, -sign);
      const ofPool = indexesFor((hosts[rank] as HostSnapshot).pool);
      for (let d = 0; d < DIMENSION_COUNT; d++) {
        const amount = amounts[d] as number;
        if (amount === 0) continue;
        const room = (rooms[rank * DIMENSION_COUNT + d] as number) + sign * amount;
        rooms[rank * DIMENSION_COUNT + d] = room;
        (ofPool[d] as RoomIndex).move(rank, room);
      }
    },
  };
}

/** Of each pool an index a dimension, made when its first host comes. */
function createPoolIndexes(hostCount: number) {
  const indexes = new Map<string, RoomIndex[]>();
  return {
    indexes,
    indexesFor(this: void, pool: string): RoomIndex[] {
      let found = indexes.get(pool);
      if (!found) {
        found = dimensions.map(() => createRoomIndex(hostCount));
        indexes.set(pool, found);
      }
      return found;
    },
  };
}

/** Sets by rank of their host, and how many hosts have as many as they may. */
class SetCounter {
  readonly counts: Int32Array;
  readonly #perHostMax: number;
  crowded: number;

  constructor(
    hosts: readonly HostSnapshot[],
    setsOnHost: ReadonlyMap<string, number>,
    perHostMax: number,
  ) {
    this.counts = Int32Array.from(hosts, ({ id }) => setsOnHost.get(id) ?? 0);
    this.#perHostMax = perHostMax;
    this.crowded = this.counts.filter((count) => count >= perHostMax).length;
  }

  add(rank: number, change: number): void {
    const before = this.counts[rank] as number;
    const after = before + change;
    this.counts[rank] = after;
    this.crowded += Number(after >= this.#perHostMax) - Number(before >= this.#perHostMax);
  }
}

export function poolPolicyOf(pools: ReadonlyMap<string, PoolPolicy>, name: string): PoolPolicy {
  const found = pools.get(name);
  assert(found, `host pool ${name} has no policy`);
  return found;
}

function numberBy(
  hosts: readonly HostSnapshot[],
  nameOf: (host: HostSnapshot) => string,
): Numbering {
  const names = [...new Set(hosts.map(nameOf))].sort();
  const numbers = new Map(names.map((name, number) => [name, number]));
  const of = Int32Array.from(hosts, (host) => numbers.get(nameOf(host)) ?? 0);
  const sizes = new Int32Array(names.length);
  for (const number of of) sizes[number] = (sizes[number] as number) + 1;
  const bitmaps = new Map<number, Bitmap>();
  return {
    of,
    count: names.length,
    sizes,
    hostsOf(number) {
      let bitmap = bitmaps.get(number);
      if (!bitmap) {
        bitmap = newBitmap(hosts.length);
        for (let rank = 0; rank < of.length; rank++) if (of[rank] === number) setBit(bitmap, rank);
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

/** The images that count for placements: a host that takes no sets offers none. */
function offeredImages(host: HostSnapshot): readonly string[] {
  return host.readiness === "ready" ? host.images : [];
}

/** Changes the entries of one host, as a new map costs a pass over all hosts and their images. */
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

/** Compares the content: each read of a host gives a new list. */
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
