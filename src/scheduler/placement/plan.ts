import { assert } from "../../lib/assert.ts";
import { type Bitmap, clearBit, newBitmap } from "./bitmap.ts";
import { type FilterContext, type Filters, freshHosts, prepareFilters } from "./filters.ts";
import { amountsOf, type Booking, fits } from "./fits.ts";
import type { Fleet } from "./fleet.ts";
import { DIMENSION_COUNT, type HostTable } from "./host-table.ts";
import type {
  Placement,
  PlacementConstraints,
  PlacementRequest,
  Plan,
  Rejection,
} from "./model.ts";
import { RejectionCounter } from "./rejection-reasons.ts";
import { ROOM_BUCKETS, type RoomIndex } from "./room-index.ts";
import { fullness, PACKING_SCORE_MAX, type Preferences, preparePreferences } from "./score.ts";
import { type Walk, walkHosts } from "./walk-hosts.ts";

/** Hosts with room that are compared for one set. With 24 the packing benchmark's figures differ by less than its seeds do. */
const CANDIDATES_MAX = 8;
/** Placements after which the scarcest dimension of a shape is looked for anew. */
const SCARCEST_DIMENSION_AGE_MAX = 256;

/**
 * Decides where sets go (DESIGN, 6): requests by priority, then by id, each to the best of the hosts with the least room that is
 * enough (or, with strategy spread, the most). Pure and total: the same fleet, requests, seed and time make the same plan, bit for bit,
 * in whatever order hosts, sets and requests came; every request is either placed or rejected with reasons. The fleet is as it was when it returns.
 *
 * Equal hosts are taken in order of their ids. The seed is only recorded: nothing is left to chance.
 */
export function planPlacements(
  fleet: Fleet,
  requests: readonly PlacementRequest[],
  options: { seed: number; nowMs: number },
): Plan {
  const planning = new Planning(fleet, requests, options.nowMs);
  const placements: Placement[] = [];
  const rejections: Rejection[] = [];
  try {
    for (const request of requests.toSorted(byPriority)) {
      const outcome = planning.place(request);
      if ("hostId" in outcome) placements.push(outcome);
      else rejections.push(outcome);
    }
  } finally {
    planning.rollBack();
  }
  assert(
    placements.length + rejections.length === requests.length,
    "each request is placed or rejected",
  );
  return {
    policyVersion: fleet.policy.version,
    seed: options.seed,
    nowMs: options.nowMs,
    placements,
    rejections,
  };
}

function byPriority(a: PlacementRequest, b: PlacementRequest): number {
  if (a.priority !== b.priority) return b.priority - a.priority;
  return a.setId < b.setId ? -1 : Number(a.setId > b.setId);
}

/** By service, the others that ask not to share a host with it: what one of two wants holds for both. */
function findRepellers(requests: readonly PlacementRequest[]): Map<string, Set<string>> {
  const repelledBy = new Map<string, Set<string>>();
  let seen: PlacementRequest | undefined; // equal sets follow each other
  for (const request of requests) {
    const { constraints, serviceId } = request;
    if (constraints === seen?.constraints && serviceId === seen.serviceId) continue;
    seen = request;
    for (const other of constraints.antiAffinity)
      repelledBy.set(other, (repelledBy.get(other) ?? new Set()).add(serviceId));
  }
  return repelledBy;
}

/** Requests that ask for the same under the same constraints: what is worked out for one holds for all. */
interface Shape {
  serviceId: string;
  constraints: PlacementConstraints;
  ask: Float64Array;
  filters: Filters;
  /** Ranks of the hosts to avoid. */
  avoided: readonly number[];
  preferences: Preferences;
  indexes: readonly RoomIndex[] | undefined;
  room: RoomFacts;
  /** Rejected, and nothing that could admit it has happened since: room only shrinks within a plan. */
  rejection: Omit<Rejection, "setId"> | undefined;
}

/** What is known of room for one ask in one pool; shared by all who ask for the same. */
interface RoomFacts {
  /** Hosts not yet seen to be too full: room only shrinks within a plan, so nobody needs to look at those again. */
  roomy: Bitmap;
  /** See Walk; of the index of the scarcest dimension. */
  emptySince: Float64Array;
  /** The asked dimension in which the fewest hosts had room when that was last looked for. */
  scarcest: { dimension: number; age: number };
}

interface Listener {
  notePlaced(serviceId: string, rank: number): void;
}

class Planning {
  readonly #fleet: Fleet;
  readonly #table: HostTable;
  readonly #context: FilterContext;
  readonly #filters = new Map<PlacementConstraints, Map<string, Filters>>();
  readonly #shapes = new Map<PlacementConstraints, Map<string, Shape>>();
  /** Filters and preferences that want to hear of placements of a service. */
  readonly #listeners = new Map<string, Set<Listener>>();
  /** Shapes of a service whose rejection another of its placements may undo. */
  readonly #spreadShapes = new Map<string, Shape[]>();
  readonly #roomFacts = new Map<string, RoomFacts>();
  /** In order; what is to be taken back at the end. */
  readonly #bookings: Booking[] = [];
  readonly #rejections: RejectionCounter;
  /** Where this plan has put sets of a service, for listeners that are made later. */
  readonly #placedHere = new Map<string, number[]>();
  /** For the walks over preferred hosts: which of them the filters allow. */
  readonly #preferredMask: Bitmap;
  readonly #setsPerHostMax: number;
  #last: { request: PlacementRequest; shape: Shape } | undefined;
  /** The best host for a shape so far. Fields, as a closure made for each request would cost as much as its walk. */
  #search: { shape: Shape; best: number; bestScore: number; left: number } | undefined;

  constructor(fleet: Fleet, requests: readonly PlacementRequest[], nowMs: number) {
    this.#fleet = fleet;
    this.#table = fleet.table();
    this.#context = {
      fleet,
      table: this.#table,
      fresh: freshHosts(fleet, this.#table, nowMs),
      bases: new Map(),
      repelledBy: findRepellers(requests),
    };
    this.#setsPerHostMax = fleet.policy.setsPerHostMax;
    this.#preferredMask = newBitmap(this.#table.hosts.length);
    this.#rejections = new RejectionCounter(this.#table, fleet.policy);
  }

  place(request: PlacementRequest): Placement | Rejection {
    const shape = this.#shapeOf(request);
    if (shape.rejection) return { setId: request.setId, ...shape.rejection };
    const best = this.#findBest(shape);
    if (best < 0) return this.#reject(request, shape);
    const placement = this.#describe(request, shape, best);
    this.#book(shape, best);
    return placement;
  }

  rollBack(): void {
    for (const { rank, ask } of this.#bookings) this.#table.addRoom(rank, ask, 1);
  }

  /** The rank of the best host, or -1. */
  #findBest(shape: Shape): number {
    const { ask, filters, preferences, room } = shape;
    if (!shape.indexes) return -1; // no host is of this pool
    const dimension = this.#scarcestDimension(shape, shape.indexes);
    const index = shape.indexes[dimension] as RoomIndex;
    const mask = withoutRanks(filters.allowed, shape.avoided);
    const walk: Walk = {
      fromBucket: index.bucketOf(ask[dimension] as number),
      order: shape.constraints.strategy === "pack" ? "fullest" : "emptiest",
      mask,
      roomy: room.roomy,
      emptySince: room.emptySince,
    };
    const search = { shape, best: -1, bestScore: Number.NEGATIVE_INFINITY, left: CANDIDATES_MAX };
    this.#search = search;
    walkHosts(index, walk, this.#consider);
    for (const preferred of preferences.preferred) {
      walk.mask = this.#preferredMask;
      for (let word = 0; word < mask.length; word++)
        walk.mask[word] = (preferred[word] as number) & (mask[word] as number);
      search.left = CANDIDATES_MAX;
      walkHosts(index, walk, this.#consider);
    }
    return search.best;
  }

  /** Compares a host with the best so far. True: enough were compared. */
  readonly #consider = (rank: number): boolean => {
    const search = this.#search;
    assert(search, "hosts are considered for a shape");
    const { shape } = search;
    const table = this.#table;
    if (
      (table.setCounts[rank] as number) >= this.#setsPerHostMax ||
      !fits(table.rooms, rank * DIMENSION_COUNT, shape.ask)
    ) {
      clearBit(shape.room.roomy, rank);
      return false;
    }
    for (const rule of shape.filters.spread) if (!rule.admits(rank)) return false;
    const { preferences } = shape;
    const score =
      this.#packing(shape, rank) + preferences.images(rank) + preferences.affinity(rank);
    if (score > search.bestScore || (score === search.bestScore && rank < search.best)) {
      search.best = rank;
      search.bestScore = score;
    }
    search.left--;
    return search.left === 0;
  };

  #packing(shape: Shape, rank: number): number {
    const full = fullness(this.#table, rank, shape.ask);
    return shape.constraints.strategy === "pack" ? full : PACKING_SCORE_MAX - full;
  }

  /** The asked dimension in which the fewest hosts have room: the walk over its index meets the fewest that do not fit. */
  #scarcestDimension(shape: Shape, indexes: readonly RoomIndex[]): number {
    const { ask } = shape;
    const { scarcest } = shape.room;
    if (scarcest.age > 0) {
      scarcest.age--;
      return scarcest.dimension;
    }
    const before = scarcest.dimension;
    let fewest = Number.POSITIVE_INFINITY;
    for (let d = 0; d < DIMENSION_COUNT; d++) {
      if (ask[d] === 0) continue;
      const index = indexes[d] as RoomIndex;
      let hosts = 0;
      for (let bucket = index.bucketOf(ask[d] as number); bucket < index.bucketCount; bucket++) {
        hosts += index.counts[bucket] as number;
      }
      if (hosts >= fewest) continue;
      fewest = hosts;
      scarcest.dimension = d;
    }
    if (scarcest.dimension !== before) shape.room.emptySince.fill(-1); // that was about another index
    scarcest.age = SCARCEST_DIMENSION_AGE_MAX;
    return scarcest.dimension;
  }

  #book(shape: Shape, rank: number): void {
    this.#table.addRoom(rank, shape.ask, -1);
    this.#bookings.push({ rank, ask: shape.ask });
    const ranks = this.#placedHere.get(shape.serviceId) ?? [];
    ranks.push(rank);
    this.#placedHere.set(shape.serviceId, ranks);
    const listeners = this.#listeners.get(shape.serviceId);
    if (!listeners) return;
    for (const listener of listeners) listener.notePlaced(shape.serviceId, rank);
    // A domain that was too full may be no longer, now that another has got one.
    for (const spread of this.#spreadShapes.get(shape.serviceId) ?? [])
      spread.rejection = undefined;
  }

  #describe(request: PlacementRequest, shape: Shape, rank: number): Placement {
    const packing = this.#packing(shape, rank);
    const images = shape.preferences.images(rank);
    const affinity = shape.preferences.affinity(rank);
    const host = this.#table.hosts[rank];
    assert(host, "a rank that was walked to is a host's");
    const because: Record<string, number> = { packing };
    if (images > 0) because["images"] = images;
    if (affinity > 0) because["affinity"] = affinity;
    return { setId: request.setId, hostId: host.id, score: packing + images + affinity, because };
  }

  #reject(request: PlacementRequest, shape: Shape): Rejection {
    const reasons = this.#rejections.explain(shape, this.#bookings);
    shape.rejection = { reasons, hostsTotal: this.#table.hosts.length };
    return { setId: request.setId, ...shape.rejection };
  }

  #shapeOf(request: PlacementRequest): Shape {
    if (this.#last && isSameShape(this.#last.request, request)) return this.#last.shape;
    const shapes = this.#shapes.get(request.constraints) ?? new Map<string, Shape>();
    this.#shapes.set(request.constraints, shapes);
    const key = shapeKey(request);
    let shape = shapes.get(key);
    if (!shape) {
      shape = this.#newShape(request);
      shapes.set(key, shape);
      if (shape.filters.spread.length > 0) {
        const others = this.#spreadShapes.get(request.serviceId) ?? [];
        this.#spreadShapes.set(request.serviceId, [...others, shape]);
      }
    }
    this.#last = { request, shape };
    return shape;
  }

  #newShape(request: PlacementRequest): Shape {
    const preferences = preparePreferences(this.#fleet, this.#table, request);
    this.#listen(preferences, request.constraints.affinity);
    return {
      serviceId: request.serviceId,
      constraints: request.constraints,
      ask: amountsOf(request.ask),
      filters: this.#filtersOf(request),
      avoided: [...new Set(request.avoidHostIds)].flatMap((id) => this.#table.rankOf.get(id) ?? []),
      preferences,
      indexes: this.#table.indexesOf(request.constraints.pool),
      room: this.#roomFactsOf(request),
      rejection: undefined,
    };
  }

  #roomFactsOf({ ask, constraints }: PlacementRequest): RoomFacts {
    const key = `${constraints.pool} ${amountsKey(ask)}`;
    let facts = this.#roomFacts.get(key);
    if (!facts) {
      const roomy = newBitmap(this.#table.hosts.length).fill(0xffff_ffff);
      facts = {
        roomy,
        emptySince: new Float64Array(ROOM_BUCKETS).fill(-1),
        scarcest: { dimension: 0, age: 0 },
      };
      this.#roomFacts.set(key, facts);
    }
    return facts;
  }

  #filtersOf(request: PlacementRequest): Filters {
    const ofConstraints = this.#filters.get(request.constraints) ?? new Map<string, Filters>();
    this.#filters.set(request.constraints, ofConstraints);
    const known = ofConstraints.get(request.serviceId);
    if (known) return known;
    const filters = prepareFilters(this.#context, request.serviceId, request.constraints);
    ofConstraints.set(request.serviceId, filters);
    this.#listen(filters, filters.heardServices);
    return filters;
  }

  /** Tells a listener of what was placed so far, and from now on, of these services. */
  #listen(listener: Listener, serviceIds: Iterable<string>): void {
    for (const serviceId of new Set(serviceIds)) {
      for (const rank of this.#placedHere.get(serviceId) ?? [])
        listener.notePlaced(serviceId, rank);
      const listeners = this.#listeners.get(serviceId) ?? new Set();
      this.#listeners.set(serviceId, listeners.add(listener));
    }
  }
}

function withoutRanks(bitmap: Bitmap, ranks: readonly number[]): Bitmap {
  if (ranks.length === 0) return bitmap;
  const rest = bitmap.slice();
  for (const rank of ranks) clearBit(rest, rank);
  return rest;
}

function isSameShape(a: PlacementRequest, b: PlacementRequest): boolean {
  return (
    a.constraints === b.constraints &&
    a.serviceId === b.serviceId &&
    a.images === b.images &&
    a.avoidHostIds.length === 0 &&
    b.avoidHostIds.length === 0 &&
    a.ask.cpuMillis === b.ask.cpuMillis &&
    a.ask.memoryBytes === b.ask.memoryBytes &&
    a.ask.volumeBytes === b.ask.volumeBytes &&
    a.ask.rootfsBytes === b.ask.rootfsBytes
  );
}

function shapeKey({ serviceId, ask, images, avoidHostIds }: PlacementRequest): string {
  return `${serviceId} ${amountsKey(ask)} ${images.join(" ")} | ${avoidHostIds.join(" ")}`;
}

function amountsKey(ask: PlacementRequest["ask"]): string {
  return `${ask.cpuMillis} ${ask.memoryBytes} ${ask.volumeBytes} ${ask.rootfsBytes}`;
}
