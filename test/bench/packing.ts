import { createFleet, type Fleet } from "../../src/scheduler/placement/fleet.ts";
import type {
  HostSnapshot,
  PlacementConstraints,
  PlanPolicy,
  Resources,
} from "../../src/scheduler/placement/model.ts";
import { planPlacements } from "../../src/scheduler/placement/plan.ts";
import { toConstraints } from "../support/fleet/scheduler-world.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { type ArrivalTrace, type FleetTrace, readDlrm, readOpenb } from "./packing-traces.ts";
import { readOptions } from "./read-options.ts";
import { type BenchHost, choose, referencePolicies } from "./reference-policies.ts";

/**
 * Compares Berth's packing with other policies on the same sequences. Berth plans one request at a
 * time with the planner of production, and without knowledge of later requests.
 *
 * dlrm: the hosts for all requests over a lower bound, which is the largest ratio of demand to
 * capacity. openb: the allocated percentage of the fleet's CPU at the first rejection. As in the
 * FGD paper, the benchmark draws sets with replacement. Results are medians over seeds.
 */

const SEEDS = [1, 2, 3, 4, 5, 6, 7];
const ZONES = 3;
/** Arrivals are cut into services of so many sets for the runs with spread constraints. */
const SETS_PER_SERVICE = 12;
const NOW_MS = 1_000_000;

const full = { cpuMillis: 100, memoryBytes: 100, volumeBytes: 100, rootfsBytes: 100 };
const policy: PlanPolicy = {
  version: 1,
  reportAgeMaxMs: 60_000,
  setsPerHostMax: 100_000,
  pools: [{ pool: "default", overcommitPercent: full, highWaterPercent: full }],
};
const nothing: Resources = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };

export async function run({ args }: { args: readonly string[] }): Promise<Record<string, unknown>> {
  const { nodes, pods } = readOptions(args, { nodes: undefined, pods: undefined });
  const arrivals = readDlrm();
  const fleet = readOpenb({ nodes, pods });
  const dlrm = compareArrivals(arrivals);
  const openb = compareSaturation(fleet);
  return {
    dlrm: { trace: arrivals.name, ...dlrm },
    openb: { trace: fleet.name, ...openb },
  };
}

function compareArrivals(trace: ArrivalTrace) {
  const lowerBound = Math.ceil(
    Math.max(
      ...trace.hostCapacity.map(
        (capacity, d) => sum(trace.instances.map((requested) => requested[d] ?? 0)) / capacity,
      ),
    ),
  );
  const references: Record<string, number> = {};
  for (const [name, score] of Object.entries(referencePolicies)) {
    const hosts: BenchHost[] = [];
    for (const requested of trace.instances) {
      let position = choose(hosts, requested, name, score);
      if (position < 0)
        position = hosts.push({ capacity: trace.hostCapacity, free: [...trace.hostCapacity] }) - 1;
      take(hosts[position], requested);
    }
    references[name] = round(hosts.length / lowerBound, 4);
  }
  const berth = round(hostsNeeded(trace, lowerBound * 2, false) / lowerBound, 4);
  const berthSpread = round(hostsNeeded(trace, lowerBound * 2, true) / lowerBound, 4);
  const bestReference = Math.min(...Object.values(references));
  print(`${trace.name}: hosts / lower bound (${lowerBound}), ${trace.instances.length} instances`, {
    berth,
    ...references,
  });
  print("the same with spread over 3 zones, maxSkew 1", { berth: berthSpread });
  return { berth, bestReference, berthSpread, references };
}

/** Hosts that Berth uses of a fleet of empty ones: a host is used when there is a set on it. */
function hostsNeeded(trace: ArrivalTrace, fleetSize: number, isSpread: boolean): number {
  const fleet = createFleet(policy);
  for (let i = 0; i < fleetSize; i++) fleet.upsertHost(emptyHost(i, trace.hostCapacity));
  const used = new Set<string>();
  for (const [position, requested] of trace.instances.entries()) {
    const hostId = placeOne(fleet, position, requested, isSpread);
    if (hostId === undefined) throw new Error("a fleet of twice the lower bound was not enough");
    used.add(hostId);
  }
  return used.size;
}

function compareSaturation(trace: FleetTrace) {
  const totalCpu = sum(trace.hosts.map(([cpu]) => cpu ?? 0));
  const results: Record<string, number[]> = { berth: [], "berth, spread": [] };
  for (const seed of SEEDS) {
    const draws = drawUntil(trace, totalCpu * 1.3, seed);
    for (const [name, score] of Object.entries(referencePolicies)) {
      const hosts = trace.hosts.map((capacity): BenchHost => ({ capacity, free: [...capacity] }));
      let cpu = 0;
      for (const requested of draws) {
        const position = choose(hosts, requested, name, score);
        if (position < 0) break;
        take(hosts[position], requested);
        cpu += requested[0] ?? 0;
      }
      (results[name] ??= []).push((100 * cpu) / totalCpu);
    }
    results["berth"]?.push((100 * allocatedAtRejection(trace, draws, false)) / totalCpu);
    results["berth, spread"]?.push((100 * allocatedAtRejection(trace, draws, true)) / totalCpu);
  }
  const medians = Object.fromEntries(
    Object.entries(results).map(([name, list]) => [name, round(median(list), 3)]),
  );
  print(
    `${trace.name}: percent of CPU allocated at the first rejection, median of ${SEEDS.length} seeds`,
    medians,
  );
  const { berth, "berth, spread": berthSpread, ...references } = medians;
  return { berth, bestReference: Math.max(...Object.values(references)), berthSpread, references };
}

function allocatedAtRejection(
  trace: FleetTrace,
  draws: readonly number[][],
  isSpread: boolean,
): number {
  const fleet = createFleet(policy);
  for (const [i, amounts] of trace.hosts.entries()) fleet.upsertHost(emptyHost(i, amounts));
  let cpu = 0;
  for (const [position, requested] of draws.entries()) {
    if (placeOne(fleet, position, requested, isSpread) === undefined) return cpu;
    cpu += requested[0] ?? 0;
  }
  return cpu;
}

const free = toConstraints();
const spreadOverZones: PlacementConstraints = { ...free, spread: [{ by: "zone", maxSkew: 1 }] };

/**
 * Plans one set and books it, as commit would. Returns the host, or undefined when it was rejected.
 */
function placeOne(
  fleet: Fleet,
  position: number,
  requested: readonly number[],
  isSpread: boolean,
): string | undefined {
  const resources = toResources(requested);
  const serviceId = `svc_${Math.floor(position / SETS_PER_SERVICE)}`;
  const setId = `set_${position}`;
  const constraints = isSpread ? spreadOverZones : free;
  const request = {
    setId,
    serviceId,
    resources,
    priority: 0,
    constraints,
    images: [],
    avoidHostIds: [],
  };
  const [placement] = planPlacements(fleet, [request], { seed: 1, nowMs: NOW_MS }).placements;
  if (!placement) return undefined;
  const host = fleet.getHost(placement.hostId);
  if (!host) throw new Error("a placement is on a host of the fleet");
  fleet.upsertHost({ ...host, allocated: plus(host.allocated, resources) });
  fleet.upsertSet({ id: setId, serviceId, hostId: host.id });
  return host.id;
}

function emptyHost(i: number, amounts: readonly number[]): HostSnapshot {
  return {
    id: `host_${String(i).padStart(6, "0")}`,
    pool: "default",
    zone: `z${i % ZONES}`,
    rack: "r0",
    labels: {},
    taints: [],
    readiness: "ready",
    allocatable: toResources(amounts),
    allocated: nothing,
    reported: { used: nothing, atMs: NOW_MS },
    unreported: nothing,
    reclaimableVolumeBytes: 0,
    images: [],
    features: [],
    setsMax: Number.POSITIVE_INFINITY,
  };
}

function toResources(amounts: readonly number[]): Resources {
  const [cpuMillis = 0, memoryBytes = 0, volumeBytes = 0] = amounts;
  return { cpuMillis, memoryBytes, volumeBytes, rootfsBytes: 0 };
}

function plus(a: Resources, b: Resources): Resources {
  return {
    cpuMillis: a.cpuMillis + b.cpuMillis,
    memoryBytes: a.memoryBytes + b.memoryBytes,
    volumeBytes: a.volumeBytes + b.volumeBytes,
    rootfsBytes: a.rootfsBytes + b.rootfsBytes,
  };
}

function drawUntil(trace: FleetTrace, cpuMillis: number, seed: number): number[][] {
  const random = seededRandom(seed);
  const draws: number[][] = [];
  for (let cpu = 0; cpu < cpuMillis;) {
    const requested = trace.instances[Math.floor(random() * trace.instances.length)];
    if (!requested) throw new Error("the trace has nothing to place");
    draws.push(requested);
    cpu += requested[0] ?? 0;
  }
  return draws;
}

function take(host: BenchHost | undefined, requested: readonly number[]): void {
  if (!host) throw new Error("a policy chose a host that does not exist");
  for (const [d, amount] of requested.entries()) host.free[d] = (host.free[d] ?? 0) - amount;
}

function print(title: string, figures: Record<string, number | undefined>): void {
  const rows = Object.entries(figures).map(([name, figure]) => `  ${name.padEnd(28)} ${figure}`);
  process.stdout.write(`${title}\n${rows.join("\n")}\n`);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
