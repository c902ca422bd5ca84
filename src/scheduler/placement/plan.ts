import { assert } from "../../lib/assert.ts";
import { AddressesAndPorts, type Wanted } from "./addresses-and-ports.ts";
import { type Bitmap, clearBit, newBitmap, withoutRanks } from "./bitmap.ts";
import {
  type FilterContext,
  type Filters,
  findRepellers,
  freshHosts,
  prepareFilters,
} from "./filters.ts";
import { toAmounts, type Booking, fits } from "./fits.ts";
import type { Fleet } from "./fleet.ts";
import { DIMENSION_COUNT, type HostTable } from "./host-table.ts";
import type {
  Placement,
  PlacementConstraints,
  PlacementRequest,
  Plan,
  Rejection,
} from "./model.ts";
import { PreferredSpread } from "./preferred-spread.ts";
import { RejectionCounter } from "./rejection-reasons.ts";
import { CAPACITY_BUCKETS, type CapacityIndex } from "./capacity-index.ts";
import { fullness, PACKING_SCORE_MAX, type Preferences, preparePreferences } from "./score.ts";
import { amountsKey, isSameShape, shapeKey } from "./shape-key.ts";
import { UncountedSets } from "./uncounted-sets.ts";
import { type Walk, walkHosts } from "./walk-hosts.ts";

/**
 * Fitting hosts that the planner compares for a set. With 24, the results of the packing benchmark
 * differ less than between two seeds.
 */
const CANDIDATES_MAX = 8;
/** Placements of a shape until the planner determines its scarcest dimension again. */
const SCARCEST_DIMENSION_AGE_MAX = 256;

/**
 * Decides the hosts of sets. It handles requests by priority, then by id. Each gets the
 * best of the fullest hosts that fit, or of the emptiest with strategy spread.
 *
 * Pure and total: the same fleet, requests, seed and time produce the same plan in every order of
 * the input. Each request is placed, or rejected with reasons. The fleet is unchanged afterwards.
 * Ids decide between equal hosts, and the plan only records the seed.
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

/** Equal requests under equal constraints. They share all results. */
interface Shape {
  serviceId: string;
  constraints: PlacementConstraints;
  requested: Float64Array;
  filters: Filters;
  preferredSpread: PreferredSpread;
  /** Ranks of the hosts to avoid. */
  avoided: readonly number[];
  preferences: Preferences;
  indexes: readonly CapacityIndex[] | undefined;
  capacity: CapacityFacts;
  /** The addresses and the host ports that a placement takes. */
  wanted: Wanted;
  /**
   * The cached rejection. Capacity, free addresses and free ports only shrink within a plan, so it
   * stays valid until a placement relaxes the spread.
   */
  rejection: Omit<Rejection, "setId"> | undefined;
}

/** Results about the capacity for the same requested amounts in one pool. Equal ones share them. */
interface CapacityFacts {
  /**
   * Hosts that have not failed to fit yet. Capacity only shrinks within a plan, so the others stay
   * full.
   */
  notFull: Bitmap;
  /** See Walk. For the index of the scarcest dimension. */
  emptySince: Float64Array;
  /**
   * The requested dimension in which the fewest hosts have capacity, and the placements until the
   * next check.
   */
  scarcest: { dimension: number; age: number };
}

interface Listener {
  notePlaced(serviceId: string, rank: number): void;
  noteReplaced?(serviceId: string, rank: number, change: -1 | 1): void;
}

class Planning {
  readonly #fleet: Fleet;
  readonly #table: HostTable;
  readonly #context: FilterContext;
  readonly #filters = new Map<PlacementConstraints, Map<string, Filters>>();
  readonly #shapes = new Map<PlacementConstraints, Map<string, Shape>>();
  /** Filters and preferences that depend on the placements of a service. */
  readonly #listeners = new Map<string, Set<Listener>>();
  /** Shapes of a service whose rejection a placement of the service may revoke. */
  readonly #spreadShapes = new Map<string, Shape[]>();
  readonly #capacityFacts = new Map<string, CapacityFacts>();
  /** All bookings in order. The end of the plan reverts them. */
  readonly #bookings: Booking[] = [];
  readonly #rejections: RejectionCounter;
  readonly #addressesAndPorts: AddressesAndPorts;
  /** The hosts of this plan by service, for listeners that the plan creates later. */
  readonly #placedHere = new Map<string, number[]>();
  readonly #uncounted: UncountedSets;
  /** Preferred hosts that the filters allow, for the present walk. */
  readonly #preferredMask: Bitmap;
  #last: { request: PlacementRequest; shape: Shape } | undefined;
  /**
   * The best host so far. A field, because a closure for each request would cost as much as its
   * walk.
   */
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
    this.#uncounted = new UncountedSets(fleet, this.#table);
    this.#preferredMask = newBitmap(this.#table.hosts.length);
    this.#rejections = new RejectionCounter(this.#table, fleet.policy);
    this.#addressesAndPorts = new AddressesAndPorts(this.#table);
  }

  place(request: PlacementRequest): Placement | Rejection {
    const shape = this.#getShape(request);
    if (shape.rejection) return { setId: request.setId, ...shape.rejection };
    const replaced = this.#uncounted.findReplacedRank(request);
    if (replaced !== undefined) this.#noteReplaced(shape.serviceId, replaced, -1);
    const best = this.#findBest(shape);
    if (best < 0) {
      const rejection = this.#reject(request, shape);
      if (replaced !== undefined) this.#noteReplaced(shape.serviceId, replaced, 1);
      return rejection;
    }
    const placement = this.#describe(request, shape, best);
    this.#book(shape, best);
    return placement;
  }

  #noteReplaced(serviceId: string, rank: number, change: -1 | 1): void {
    this.#uncounted.note(serviceId, rank, change);
    for (const listener of this.#listeners.get(serviceId) ?? [])
      listener.noteReplaced?.(serviceId, rank, change);
  }

  rollBack(): void {
    for (const { rank, requested } of this.#bookings) this.#table.addCapacity(rank, requested, 1);
  }

  /** Returns the rank of the best host, or -1. */
  #findBest(shape: Shape): number {
    shape.preferredSpread.begin();
    const best = this.#searchOnce(shape);
    return best < 0 && shape.preferredSpread.relax() ? this.#searchOnce(shape) : best;
  }

  #searchOnce(shape: Shape): number {
    const { requested, filters, preferences, capacity } = shape;
    if (!shape.indexes) return -1; // no host is of this pool
    const dimension = this.#scarcestDimension(shape, shape.indexes);
    const index = shape.indexes[dimension] as CapacityIndex;
    const allowed = this.#addressesAndPorts.restrict(filters.allowed, shape.wanted);
    const mask = withoutRanks(allowed, shape.avoided);
    const walk: Walk = {
      fromBucket: index.toBucket(requested[dimension] as number),
      order: shape.constraints.strategy === "pack" ? "fullest" : "emptiest",
      mask,
      notFull: capacity.notFull,
      emptySince: capacity.emptySince,
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

  /** Compares a host with the best so far. Returns true after enough hosts. */
  readonly #consider = (rank: number): boolean => {
    const search = this.#search;
    assert(search, "a search has a shape");
    const { shape } = search;
    const table = this.#table;
    if (
      (table.setCounts[rank] as number) >= (table.setLimits[rank] as number) ||
      !fits(table.capacities, rank * DIMENSION_COUNT, shape.requested)
    ) {
      clearBit(shape.capacity.notFull, rank);
      return false;
    }
    for (const rule of shape.filters.spread) if (!rule.admits(rank)) return false;
    if (!shape.preferredSpread.admits(rank)) return false;
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
    const full = fullness(this.#table, rank, shape.requested);
    return shape.constraints.strategy === "pack" ? full : PACKING_SCORE_MAX - full;
  }

  /**
   * The requested dimension in which the fewest hosts have capacity. A walk over its index visits
   * the fewest hosts that do not fit.
   */
  #scarcestDimension(shape: Shape, indexes: readonly CapacityIndex[]): number {
    const { requested } = shape;
    const { scarcest } = shape.capacity;
    if (scarcest.age > 0) {
      scarcest.age--;
      return scarcest.dimension;
    }
    const before = scarcest.dimension;
    let fewest = Number.POSITIVE_INFINITY;
    for (let d = 0; d < DIMENSION_COUNT; d++) {
      const amount = requested[d] as number;
      if (amount === 0) continue;
      const index = indexes[d] as CapacityIndex;
      let hosts = 0;
      for (let bucket = index.toBucket(amount); bucket < index.bucketCount; bucket++) {
        hosts += index.counts[bucket] as number;
      }
      if (hosts >= fewest) continue;
      fewest = hosts;
      scarcest.dimension = d;
    }
    // The entries belong to another index.
    if (scarcest.dimension !== before) shape.capacity.emptySince.fill(-1);
    scarcest.age = SCARCEST_DIMENSION_AGE_MAX;
    return scarcest.dimension;
  }

  #book(shape: Shape, rank: number): void {
    this.#table.addCapacity(rank, shape.requested, -1);
    this.#bookings.push({ rank, requested: shape.requested });
    this.#addressesAndPorts.notePlaced(rank, shape.wanted);
    const ranks = this.#placedHere.get(shape.serviceId) ?? [];
    ranks.push(rank);
    this.#placedHere.set(shape.serviceId, ranks);
    const listeners = this.#listeners.get(shape.serviceId);
    if (!listeners) return;
    for (const listener of listeners) listener.notePlaced(shape.serviceId, rank);
    // A placement may raise the lowest count, which opens other domains.
    for (const spread of this.#spreadShapes.get(shape.serviceId) ?? [])
      spread.rejection = undefined;
  }

  #describe(request: PlacementRequest, shape: Shape, rank: number): Placement {
    const packing = this.#packing(shape, rank);
    const images = shape.preferences.images(rank);
    const affinity = shape.preferences.affinity(rank);
    const host = this.#table.hosts[rank];
    assert(host, "each rank of a walk has a host");
    const because: Record<string, number> = { packing };
    if (images > 0) because["images"] = images;
    if (affinity > 0) because["affinity"] = affinity;
    return { setId: request.setId, hostId: host.id, score: packing + images + affinity, because };
  }

  #reject(request: PlacementRequest, shape: Shape): Rejection {
    const against = this.#addressesAndPorts.countAgainst(shape.wanted);
    const reasons = this.#rejections.explain(shape, this.#bookings, against);
    shape.rejection = { reasons, hostsTotal: this.#table.hosts.length };
    return { setId: request.setId, ...shape.rejection };
  }

  #getShape(request: PlacementRequest): Shape {
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
    const filters = this.#getFilters(request);
    this.#listen(preferences, request.constraints.affinity);
    return {
      serviceId: request.serviceId,
      constraints: request.constraints,
      requested: toAmounts(request.resources),
      filters,
      preferredSpread: new PreferredSpread(filters.spread, filters.preferredSpread),
      avoided: [...new Set(request.avoidHostIds)].flatMap(
        (id) => this.#table.rankById.get(id) ?? [],
      ),
      preferences,
      indexes: this.#table.findIndexes(request.constraints.pool),
      capacity: this.#getCapacityFacts(request),
      wanted: this.#addressesAndPorts.add(request.constraints),
      rejection: undefined,
    };
  }

  #getCapacityFacts({ resources, constraints }: PlacementRequest): CapacityFacts {
    const key = `${constraints.pool} ${amountsKey(resources)}`;
    let facts = this.#capacityFacts.get(key);
    if (!facts) {
      const notFull = newBitmap(this.#table.hosts.length).fill(0xffff_ffff);
      facts = {
        notFull,
        emptySince: new Float64Array(CAPACITY_BUCKETS).fill(-1),
        scarcest: { dimension: 0, age: 0 },
      };
      this.#capacityFacts.set(key, facts);
    }
    return facts;
  }

  #getFilters(request: PlacementRequest): Filters {
    const ofConstraints = this.#filters.get(request.constraints) ?? new Map<string, Filters>();
    this.#filters.set(request.constraints, ofConstraints);
    const known = ofConstraints.get(request.serviceId);
    if (known) return known;
    const filters = prepareFilters(this.#context, request.serviceId, request.constraints);
    ofConstraints.set(request.serviceId, filters);
    this.#listen(filters, filters.watchedServices);
    return filters;
  }

  /** Notifies a listener of the placements of these services, past and future. */
  #listen(listener: Listener, serviceIds: Iterable<string>): void {
    for (const serviceId of new Set(serviceIds)) {
      for (const rank of this.#placedHere.get(serviceId) ?? [])
        listener.notePlaced(serviceId, rank);
      for (const rank of this.#uncounted.listRanks(serviceId))
        listener.noteReplaced?.(serviceId, rank, -1);
      const listeners = this.#listeners.get(serviceId) ?? new Set();
      this.#listeners.set(serviceId, listeners.add(listener));
    }
  }
}
