import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { toConstraints } from "../../../test/support/fleet/scheduler-world.ts";
import { createFleet, type Fleet } from "./fleet.ts";
import {
  type Dimension,
  dimensions,
  type HostSnapshot,
  NETWORKS_FEATURE,
  type PlacedSet,
  type PlacementConstraints,
  type PlacementRequest,
  type Plan,
  type PlanPolicy,
  type PoolPolicy,
  type RejectReason,
  type Resources,
  type SpreadConstraint,
} from "./model.ts";
import { planPlacements } from "./plan.ts";

/**
 * Compares the planner with a second, slow implementation of its rules that shares no code with it.
 * After each decision the oracle checks each host. A placement must be on a permitted host, and a
 * rejection needs a fleet without one. Small amounts make hosts fill up, so limits occur often.
 */

const nowMs = 100_000;
const options = { seed: 7, nowMs };
const services = ["svc_a", "svc_b", "svc_c"];
const RUNS = 250;

const resources = (max: number): fc.Arbitrary<Resources> =>
  fc.record({
    cpuMillis: fc.integer({ min: 0, max }),
    memoryBytes: fc.integer({ min: 0, max }),
    volumeBytes: fc.integer({ min: 0, max }),
    rootfsBytes: fc.integer({ min: 0, max }),
  });

const percents = (min: number, max: number): fc.Arbitrary<Resources> =>
  resources(max - min).map((amounts) => combine(amounts, amounts, (amount) => amount + min));

const policyArbitrary: fc.Arbitrary<PlanPolicy> = fc
  .tuple(percents(80, 200), percents(60, 100), fc.constantFrom(1, 2, 3, 100))
  .map(([overcommitPercent, highWaterPercent, setsPerHostMax]) => ({
    version: 3,
    reportAgeMaxMs: 30_000,
    setsPerHostMax,
    pools: ["default", "gpu"].map((pool) => ({ pool, overcommitPercent, highWaterPercent })),
  }));

const usually = <T>(value: T, ...others: T[]) =>
  fc.oneof({ weight: 8, arbitrary: fc.constant(value) }, fc.constantFrom(...others));

const hostArbitrary: fc.Arbitrary<Omit<HostSnapshot, "id">> = fc.record({
  pool: usually("default", "gpu"),
  zone: fc.constantFrom("z1", "z2", "z3"),
  rack: fc.constantFrom("r1", "r2"),
  labels: fc.constantFrom({}, { disk: "ssd" }, { disk: "hdd" }),
  taints: usually<HostSnapshot["taints"]>([], [{ key: "only", value: "batch" }]),
  readiness: usually<HostSnapshot["readiness"]>(
    "ready",
    "cordoned",
    "draining",
    "lost",
    "self-test-failed",
  ),
  allocatable: resources(60),
  allocated: resources(15),
  reported: fc.oneof(
    { weight: 8, arbitrary: fc.record({ used: resources(20), atMs: fc.constant(nowMs - 30_000) }) },
    { weight: 1, arbitrary: fc.record({ used: resources(20), atMs: fc.constant(nowMs - 30_001) }) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  ),
  unreported: resources(5),
  reclaimableVolumeBytes: fc.integer({ min: 0, max: 30 }),
  images: fc.subarray(["app:1", "log:2"]),
  features: usually<string[]>(["init", "tmpfs"], ["tmpfs"], [], ["init", "tmpfs", "networks"]),
  setsMax: usually(Number.POSITIVE_INFINITY, 0, 1, 2),
});

const hostsArbitrary = fc
  .array(hostArbitrary, { maxLength: 6 })
  .map((hosts) => hosts.map((host, n): HostSnapshot => ({ ...host, id: `host_${n}` })));

const constraintsArbitrary: fc.Arbitrary<PlacementConstraints> = fc.record({
  strategy: fc.constantFrom("pack", "spread"),
  spread: fc.uniqueArray(
    fc.record({
      by: fc.constantFrom("zone", "rack", "host"),
      maxSkew: fc.integer({ min: 1, max: 2 }),
      mode: fc.constantFrom(undefined, "required", "preferred"),
    }),
    { maxLength: 2, selector: ({ by }) => by },
  ),
  antiAffinity: fc.subarray(services, { maxLength: 2 }),
  affinity: fc.subarray(services, { maxLength: 1 }),
  hostLabels: usually<Record<string, string>>({}, { disk: "ssd" }),
  tolerations: fc.constantFrom([], [{ key: "only", value: "batch" }]),
  pool: usually("default", "gpu"),
  features: usually<string[]>([], ["init"], ["init", "tmpfs"]),
  subnets: fc.constant([]),
  hostPorts: fc.constant([]),
  addressFault: usually<PlacementConstraints["addressFault"]>(
    undefined,
    "address-taken",
    "addresses-unknown",
  ),
  uncountedSets: fc.constant(new Map()),
});

const preferredArbitrary: fc.Arbitrary<SpreadConstraint[]> = fc.subarray([
  { by: "zone", maxSkew: 1, mode: "preferred" },
  { by: "rack", maxSkew: 2, mode: "preferred" },
  { by: "host", maxSkew: 1, mode: "preferred" },
]);

/** All requests of a plan see the same number of free addresses of a subnet. */
const subnetsArbitrary = fc
  .record({ sub_a: fc.integer({ min: 0, max: 4 }), sub_b: fc.integer({ min: 0, max: 4 }) })
  .map((free) => Object.entries(free).map(([id, free]) => ({ id, free })));

/** All requests of a plan see the same hosts on which a port is taken. */
const hostPortsArbitrary: fc.Arbitrary<PlacementConstraints["hostPorts"]> = fc
  .tuple(
    fc.subarray(["host_0", "host_1", "host_gone"]),
    usually<string[]>([], ["host_0", "host_2"]),
  )
  .map(([onA, onB]) => [
    { key: "tcp/80", takenOn: onA },
    { key: "udp/53", takenOn: onB },
  ]);

/** The constraints of all services have one list of replaced sets. */
const sharedConstraintsArbitrary: fc.Arbitrary<PlacementConstraints[]> = fc
  .tuple(
    fc.array(constraintsArbitrary, { minLength: 1, maxLength: 3 }),
    usually<PlacementConstraints["uncountedSets"]>(
      new Map(),
      new Map([["host_0", 1]]),
      new Map([
        ["host_1", 2],
        ["host_gone", 1],
      ]),
    ),
    subnetsArbitrary,
    hostPortsArbitrary,
    fc.infiniteStream(fc.nat({ max: 2 })),
  )
  .map(([all, uncountedSets, subnets, hostPorts, counts]) =>
    all.map((one) => ({
      ...one,
      uncountedSets,
      hostPorts: hostPorts.slice(2 - (counts.next().value ?? 0)),
      subnets: subnets.slice(0, counts.next().value ?? 0),
    })),
  );

const requestsArbitrary: fc.Arbitrary<PlacementRequest[]> = sharedConstraintsArbitrary
  .chain((shared) =>
    fc.array(
      fc.record({
        serviceId: fc.constantFrom(...services),
        resources: resources(12),
        priority: fc.integer({ min: 0, max: 2 }),
        constraints: fc.constantFrom(...shared), // one object for many requests, as callers do
        images: fc.subarray(["app:1", "log:2"]),
        avoidHostIds: usually<string[]>([], ["host_0"], ["host_1", "host_gone"]),
        replacesOnHostId: usually<string | undefined>(undefined, "host_0", "host_1", "host_gone"),
      }),
      { maxLength: 12 },
    ),
  )
  .map((requests) => requests.map((request, n) => ({ ...request, setId: `set_new${n}` })));

const setsArbitrary: fc.Arbitrary<PlacedSet[]> = fc
  .array(
    fc.record({
      serviceId: fc.constantFrom(...services),
      hostId: fc.constantFrom("host_0", "host_1", "host_2", "host_3", "host_gone"),
    }),
    { maxLength: 6 },
  )
  .map((sets) => sets.map((set, n) => ({ ...set, id: `set_old${n}` })));

const worldArbitrary = fc.record({
  policy: policyArbitrary,
  hosts: hostsArbitrary,
  sets: setsArbitrary,
  requests: requestsArbitrary,
});
interface World {
  policy: PlanPolicy;
  hosts: readonly HostSnapshot[];
  sets: readonly PlacedSet[];
  requests: readonly PlacementRequest[];
}

describe("every decision of a plan", () => {
  it("places only where all rules allow it, and rejects only if no host remains", () => {
    fc.assert(
      fc.property(worldArbitrary, (world) => {
        const plan = planPlacements(buildFleet(world), world.requests, options);
        const placed = new Map(plan.placements.map(({ setId, hostId }) => [setId, hostId]));
        const rejected = new Set(plan.rejections.map(({ setId }) => setId));
        expect(placed.size + rejected.size).toBe(world.requests.length);
        const oracle = createOracle(world);
        for (const request of inOrder(world.requests)) {
          const hostId = placed.get(request.setId);
          const allowed = oracle.hosts.filter((host) => oracle.reasons(host, request).size === 0);
          if (hostId === undefined) expect(rejected.has(request.setId)).toBe(true);
          if (hostId === undefined) expect(allowed).toEqual([]);
          else expect(allowed.map(({ id }) => id)).toContain(hostId);
          if (hostId !== undefined) {
            const excess = allowed.map((host) => oracle.excess(host, request));
            const chosen = allowed.findIndex(({ id }) => id === hostId);
            expect(excess[chosen]).toBe(Math.min(...excess));
          }
          if (hostId !== undefined) oracle.place(request, hostId);
        }
      }),
      { numRuns: RUNS },
    );
  });

  it("counts the hosts of each reason exactly, with the earlier placements of the plan", () => {
    fc.assert(
      fc.property(worldArbitrary, (world) => {
        const plan = planPlacements(buildFleet(world), world.requests, options);
        const placed = new Map(plan.placements.map(({ setId, hostId }) => [setId, hostId]));
        const rejected = new Map(plan.rejections.map((rejection) => [rejection.setId, rejection]));
        const checked = new Set<unknown>(); // equal sets share the counts of the first one
        const oracle = createOracle(world);
        for (const request of inOrder(world.requests)) {
          const rejection = rejected.get(request.setId);
          if (rejection && !checked.has(rejection.reasons)) {
            checked.add(rejection.reasons);
            const counts = new Map<RejectReason, number>();
            for (const host of oracle.hosts) {
              for (const reason of oracle.reasons(host, request))
                counts.set(reason, (counts.get(reason) ?? 0) + 1);
            }
            expect(rejection.hostsTotal).toBe(world.hosts.length);
            const said = rejection.reasons.map(({ reason, hosts }) => [reason, hosts] as const);
            expect(new Map(said)).toEqual(counts);
          }
          const hostId = placed.get(request.setId);
          if (hostId !== undefined) oracle.place(request, hostId);
        }
      }),
      { numRuns: RUNS },
    );
  });
});

describe("a plan", () => {
  it("depends neither on the order of hosts, sets and requests nor on the history", () => {
    const seeded = fc.tuple(worldArbitrary, worldArbitrary, fc.infiniteStream(fc.nat()));
    fc.assert(
      fc.property(seeded, ([world, before, keys]) => {
        const shuffled = <T>(items: readonly T[]): T[] =>
          items
            .map((item) => ({ item, key: keys.next().value ?? 0 }))
            .sort((a, b) => a.key - b.key)
            .map(({ item }) => item);
        const expected = planPlacements(buildFleet(world), world.requests, options);
        const fleet = buildFleet(before); // starts as another world and becomes this one
        planPlacements(fleet, before.requests, options);
        for (const { id } of shuffled(before.sets)) fleet.removeSet(id);
        for (const { id } of before.hosts) {
          if (!world.hosts.some((host) => host.id === id)) fleet.removeHost(id);
        }
        fleet.setPolicy(world.policy);
        for (const set of shuffled(world.sets)) fleet.upsertSet(set);
        for (const host of shuffled(world.hosts)) fleet.upsertHost(host);
        expect(fleet.hostCount).toBe(world.hosts.length);
        expect(fleet.setCount).toBe(world.sets.length);
        expectSamePlan(planPlacements(fleet, shuffled(world.requests), options), expected);
      }),
      { numRuns: RUNS },
    );
  });

  it("does not change the fleet, so a second plan is the same", () => {
    fc.assert(
      fc.property(worldArbitrary, (world) => {
        const fleet = buildFleet(world);
        const first = planPlacements(fleet, world.requests, options);
        expect(planPlacements(fleet, world.requests, options)).toEqual(first);
        for (const host of world.hosts) expect(fleet.getHost(host.id)).toEqual(host);
      }),
      { numRuns: RUNS },
    );
  });

  it("still places a single set without spread after one more host", () => {
    fc.assert(
      fc.property(worldArbitrary, hostArbitrary, (world, added) => {
        const hosts = [...world.hosts, { ...added, id: "host_new" }];
        for (const request of world.requests) {
          if (request.constraints.spread.some(({ mode }) => mode !== "preferred")) continue;
          const before = planPlacements(buildFleet(world), [request], options);
          const after = planPlacements(buildFleet({ ...world, hosts }), [request], options);
          const atLeast = before.placements.length;
          expect(after.placements.length).toBeGreaterThanOrEqual(atLeast);
        }
      }),
      { numRuns: RUNS },
    );
  });

  it("places as many equal sets as fit", () => {
    const requested = resources(12).filter((amounts) => dimensions.some((d) => amounts[d] > 0));
    fc.assert(
      fc.property(worldArbitrary, requested, preferredArbitrary, (world, requested, spread) => {
        const constraints = toConstraints({ spread });
        const requests = Array.from({ length: 40 }, (_, n): PlacementRequest => {
          const setId = `set_equal${n}`;
          const shared = {
            serviceId: "svc_a",
            resources: requested,
            priority: 0,
            constraints,
            images: [],
          };
          return { ...shared, setId, avoidHostIds: [] };
        });
        const oracle = createOracle({ ...world, requests });
        let optimum = 0;
        for (const host of oracle.hosts) {
          for (const request of requests) {
            if (oracle.reasons(host, request).size > 0) break;
            oracle.place(request, host.id);
            optimum++;
          }
        }
        const plan = planPlacements(buildFleet(world), requests, options);
        expect(plan.placements).toHaveLength(Math.min(optimum, requests.length));
      }),
      { numRuns: RUNS },
    );
  });
});

function buildFleet({ policy, hosts, sets }: Omit<World, "requests">): Fleet {
  const fleet = createFleet(policy);
  for (const host of hosts) fleet.upsertHost(host);
  for (const set of sets) fleet.upsertSet(set);
  return fleet;
}

function inOrder(requests: readonly PlacementRequest[]): PlacementRequest[] {
  return requests.toSorted((a, b) => b.priority - a.priority || (a.setId < b.setId ? -1 : 1));
}

function expectSamePlan(plan: Plan, expected: Plan): void {
  expect(JSON.stringify(plan)).toBe(JSON.stringify(expected));
}

/** The rules once more, in the plainest way there is: no index, no cache, all hosts each time. */
function createOracle(world: World) {
  const sets = [...world.sets];
  /** For each service, the hosts of sets whose replacements this plan has placed. */
  const replacedHere = new Map(services.map((id): [string, string[]] => [id, []]));
  const added = new Map(world.hosts.map(({ id }) => [id, noResources()]));
  const hosts = world.hosts;
  const taken = new Map<string, number>();
  /** The keys of the host ports of this plan, by host. */
  const ports = new Map<string, string[]>();

  const count = (serviceId: string, isThere: (host: HostSnapshot) => boolean) =>
    sets.filter((set) => {
      const host = hosts.find(({ id }) => id === set.hostId);
      return set.serviceId === serviceId && host !== undefined && isThere(host);
    }).length;

  /** The hosts of the sets that spread counts for a request, once for each set. */
  function countedHosts(request: PlacementRequest): HostSnapshot[] {
    const { serviceId, constraints, replacesOnHostId } = request;
    const toHostIds = (placed: readonly PlacedSet[]) =>
      placed.flatMap((set) => (set.serviceId === serviceId ? set.hostId : []));
    const counted = toHostIds(world.sets);
    const uncounted = [...constraints.uncountedSets].flatMap(([hostId, sets]) =>
      Array<string>(sets).fill(hostId),
    );
    const replaced = [...uncounted, ...(replacedHere.get(serviceId) ?? [])];
    if (replacesOnHostId !== undefined) replaced.push(replacesOnHostId);
    for (const hostId of replaced) {
      if (counted.includes(hostId)) counted.splice(counted.indexOf(hostId), 1);
    }
    counted.push(...toHostIds(sets.slice(world.sets.length)));
    return counted.flatMap((hostId) => hosts.find(({ id }) => id === hostId) ?? []);
  }

  function permanentReasons(
    host: HostSnapshot,
    constraints: PlacementConstraints,
  ): Set<RejectReason> {
    const reasons = new Set<RejectReason>();
    if (host.readiness !== "ready") reasons.add(`host-${host.readiness}`);
    const isFresh = host.reported && nowMs - host.reported.atMs <= world.policy.reportAgeMaxMs;
    if (!isFresh) reasons.add("report-stale");
    if (host.pool !== constraints.pool) reasons.add("other-pool");
    for (const [key, value] of Object.entries(constraints.hostLabels)) {
      if (host.labels[key] !== value) reasons.add("label-mismatch");
    }
    for (const feature of constraints.features) {
      if (!host.features.includes(feature))
        reasons.add(feature === NETWORKS_FEATURE ? "networks-unavailable" : "agent-too-old");
    }
    for (const { key, value } of host.taints) {
      const isTolerated = constraints.tolerations.some((t) => t.key === key && t.value === value);
      if (!isTolerated) reasons.add("taint-not-tolerated");
    }
    return reasons;
  }

  function computeExcess(
    host: HostSnapshot,
    request: PlacementRequest,
    { by, maxSkew }: SpreadConstraint,
  ): number {
    const getDomain = (h: HostSnapshot) =>
      ({ zone: h.zone, rack: `${h.zone}/${h.rack}`, host: h.id })[by];
    const inDomain = (domain: string) =>
      countedHosts(request).filter((h) => getDomain(h) === domain).length;
    const eligible = hosts
      .filter((h) => permanentReasons(h, request.constraints).size === 0)
      .map(getDomain);
    if (eligible.length === 0) return 0;
    const lowest = Math.min(...eligible.map(inDomain));
    return Math.max(0, inDomain(getDomain(host)) + 1 - lowest - maxSkew);
  }

  return {
    hosts,
    /** By how many sets the host exceeds the preferred spread rules. */
    excess: (host: HostSnapshot, request: PlacementRequest): number =>
      request.constraints.spread
        .filter(({ mode }) => mode === "preferred")
        .reduce((sum, rule) => sum + computeExcess(host, request, rule), 0),
    place(request: PlacementRequest, hostId: string): void {
      sets.push({ id: request.setId, serviceId: request.serviceId, hostId });
      if (hosts.find(({ id }) => id === hostId)?.features.includes("networks")) {
        for (const { id } of request.constraints.subnets) taken.set(id, (taken.get(id) ?? 0) + 1);
      }
      const keys = request.constraints.hostPorts.map(({ key }) => key);
      ports.set(hostId, [...(ports.get(hostId) ?? []), ...keys]);
      if (request.replacesOnHostId !== undefined)
        replacedHere.get(request.serviceId)?.push(request.replacesOnHostId);
      added.set(
        hostId,
        combine(added.get(hostId) ?? noResources(), request.resources, (a, b) => a + b),
      );
    },
    reasons(host: HostSnapshot, request: PlacementRequest): Set<RejectReason> {
      const { constraints, serviceId } = request;
      const reasons = permanentReasons(host, constraints);
      if (request.avoidHostIds.includes(host.id)) reasons.add("avoided");
      for (const { id, free } of constraints.subnets) {
        if (host.features.includes("networks") && free <= (taken.get(id) ?? 0))
          reasons.add(constraints.addressFault ?? "subnet-exhausted");
      }
      for (const { key, takenOn } of constraints.hostPorts) {
        if (takenOn.includes(host.id) || ports.get(host.id)?.includes(key))
          reasons.add("host-port-taken");
      }
      if (constraints.addressFault && host.features.includes("networks"))
        reasons.add(constraints.addressFault);
      const isHere = ({ id }: HostSnapshot) => id === host.id;
      for (const other of services) {
        // Each of the two services may state the rule.
        const forbids = (a: string, b: string) =>
          world.requests.some((r) => r.serviceId === a && r.constraints.antiAffinity.includes(b));
        const isForbidden = constraints.antiAffinity.includes(other) || forbids(other, serviceId);
        if (isForbidden && count(other, isHere) > 0) reasons.add("anti-affinity");
      }
      const setsHere = sets.filter((set) => set.hostId === host.id).length;
      if (setsHere >= Math.min(world.policy.setsPerHostMax, host.setsMax))
        reasons.add("too-many-sets");
      for (const rule of constraints.spread) {
        if (rule.mode !== "preferred" && computeExcess(host, request, rule) > 0)
          reasons.add(`spread-${rule.by}`);
      }
      const pool = world.policy.pools.find((candidate) => candidate.pool === host.pool);
      for (const dimension of dimensions) {
        const short = pool && shortage(host, pool, dimension, request.resources[dimension]);
        if (short) reasons.add(short);
      }
      return reasons;
    },
  };

  function shortage(
    host: HostSnapshot,
    pool: PoolPolicy,
    dimension: Dimension,
    amount: number,
  ): RejectReason | undefined {
    if (amount === 0) return undefined;
    const name = { cpuMillis: "cpu", memoryBytes: "memory", volumeBytes: "volume" } as const;
    const shown = dimension === "rootfsBytes" ? "rootfs" : name[dimension];
    const planned = added.get(host.id)?.[dimension] ?? 0;
    const most = (percent: Resources) =>
      Math.floor((host.allocatable[dimension] * percent[dimension]) / 100);
    const booked = host.allocated[dimension] + planned + amount;
    if (booked > most(pool.overcommitPercent)) return `insufficient-${shown}`;
    const reclaimable = dimension === "volumeBytes" ? host.reclaimableVolumeBytes : 0;
    const used = Math.max(0, (host.reported?.used[dimension] ?? 0) - reclaimable);
    const measured = used + host.unreported[dimension] + planned + amount;
    return measured > most(pool.highWaterPercent) ? `above-high-water-${shown}` : undefined;
  }
}

function noResources(): Resources {
  return { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
}

function combine(a: Resources, b: Resources, of: (a: number, b: number) => number): Resources {
  return {
    cpuMillis: of(a.cpuMillis, b.cpuMillis),
    memoryBytes: of(a.memoryBytes, b.memoryBytes),
    volumeBytes: of(a.volumeBytes, b.volumeBytes),
    rootfsBytes: of(a.rootfsBytes, b.rootfsBytes),
  };
}
