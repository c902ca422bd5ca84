import { createFleet, type Fleet } from "../../src/scheduler/placement/fleet.ts";
import type {
  HostSnapshot,
  PlacementConstraints,
  PlacementRequest,
  PlanPolicy,
} from "../../src/scheduler/placement/model.ts";
import { planPlacements } from "../../src/scheduler/placement/plan.ts";
import { toConstraints } from "../support/fleet/scheduler-world.ts";
import { seededRandom } from "../support/seeded-random.ts";

/**
 * Placements per second of the pure planner on one core, in four dimensions. Hosts have three sizes
 * and a random fill of about 70%, so every bucket of the indexes is in use. A plan has 5,000 sets
 * of eight shapes, which fill the fleet by a little. The planner rolls it back, so every round
 * starts from the same fleet.
 */

const GIB = 2 ** 30;
const SETS_PER_PLAN = 5_000;
const ROUNDS = 9;
const NOW_MS = 1_000_000;
const ZONES = 3;
const RACKS_PER_ZONE = 40;

const full = { cpuMillis: 100, memoryBytes: 100, volumeBytes: 100, rootfsBytes: 100 };
const policy: PlanPolicy = {
  version: 1,
  reportAgeMaxMs: 60_000,
  setsPerHostMax: 5_000,
  pools: [{ pool: "default", overcommitPercent: full, highWaterPercent: full }],
};

export async function run(): Promise<Record<string, unknown>> {
  const perSecond: Record<string, number> = {};
  const constrainedPerSecond: Record<string, number> = {};
  const rows: string[] = [];
  for (const hostCount of [500, 5_000, 50_000]) {
    const fleet = filledFleet(hostCount);
    // Of a small fleet less is placed, so that it stays about as full as the others.
    const sets = Math.min(SETS_PER_PLAN, hostCount * 2);
    perSecond[hostCount] = measure(
      fleet,
      requestsOf(sets, () => free),
    );
    constrainedPerSecond[hostCount] = measure(fleet, constrainedRequests(sets));
    rows.push(
      `${String(hostCount).padStart(7)} ${format(perSecond[hostCount])} ${format(constrainedPerSecond[hostCount])}`,
    );
  }
  const costRatio = round((perSecond["5000"] ?? 0) / (perSecond["50000"] ?? 1));
  process.stdout.write(
    `  hosts   unconstrained/s   spread + anti-affinity/s\n${rows.join("\n")}\n`,
  );
  process.stdout.write(`A placement at 50,000 hosts costs ${costRatio} times one at 5,000.\n`);
  return { perSecond, constrainedPerSecond, costRatio50000To5000: costRatio };
}

const free = toConstraints();

/**
 * Services of 20 sets that spread over zones and never share a host with themselves or with the
 * next service.
 */
function constrainedRequests(sets: number): PlacementRequest[] {
  const setsPerService = 20;
  const services = Math.ceil(sets / setsPerService);
  const constraints = Array.from({ length: services }, (_, service): PlacementConstraints => ({
    ...free,
    spread: [{ by: "zone", maxSkew: 1 }],
    antiAffinity: [`svc_${service}`, `svc_${(service + 1) % services}`],
  }));
  return requestsOf(
    sets,
    (i) => constraints[Math.floor(i / setsPerService)] ?? free,
    setsPerService,
  );
}

function requestsOf(
  count: number,
  toConstraints: (index: number) => PlacementConstraints,
  setsPerService = 20,
): PlacementRequest[] {
  const images: string[] = [];
  return Array.from({ length: count }, (_, i) => {
    const service = Math.floor(i / setsPerService);
    const size = 1 + (service % 8);
    return {
      setId: `set_${String(i).padStart(6, "0")}`,
      serviceId: `svc_${service}`,
      resources: {
        cpuMillis: size * 500,
        memoryBytes: size * GIB,
        volumeBytes: (service % 3) * 10 * GIB,
        rootfsBytes: 2 * GIB,
      },
      priority: 100,
      constraints: toConstraints(i),
      images,
      avoidHostIds: [],
    };
  });
}

function filledFleet(hostCount: number): Fleet {
  const random = seededRandom(hostCount);
  const fleet = createFleet(policy);
  for (let i = 0; i < hostCount; i++) fleet.upsertHost(filledHost(i, random));
  return fleet;
}

function filledHost(i: number, random: () => number): HostSnapshot {
  const size = 1 + (i % 3);
  const allocatable = {
    cpuMillis: 32_000 * size,
    memoryBytes: 128 * GIB * size,
    volumeBytes: 1_024 * GIB * size,
    rootfsBytes: 512 * GIB,
  };
  // 40 to 100% in each dimension: 70 on average, and not the same in all.
  const share = () => 0.4 + 0.6 * random();
  const allocated = {
    cpuMillis: Math.floor(allocatable.cpuMillis * share()),
    memoryBytes: Math.floor(allocatable.memoryBytes * share()),
    volumeBytes: Math.floor(allocatable.volumeBytes * share()),
    rootfsBytes: Math.floor(allocatable.rootfsBytes * share()),
  };
  return {
    id: `host_${String(i).padStart(6, "0")}`,
    pool: "default",
    zone: `z${i % ZONES}`,
    rack: `r${i % RACKS_PER_ZONE}`,
    labels: {},
    taints: [],
    readiness: "ready",
    allocatable,
    allocated,
    reported: {
      used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
      atMs: NOW_MS,
    },
    unreported: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
    reclaimableVolumeBytes: 0,
    images: [],
    features: [],
    setsMax: Number.POSITIVE_INFINITY,
  };
}

/**
 * Placements per second of processor time: the median of the rounds after a first one for warm-up.
 * Processor time excludes other processes of the machine.
 */
function measure(fleet: Fleet, requests: readonly PlacementRequest[]): number {
  const rates: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const before = process.cpuUsage();
    const plan = planPlacements(fleet, requests, { seed: 1, nowMs: NOW_MS });
    const { user, system } = process.cpuUsage(before);
    const seconds = (user + system) / 1e6;
    if (plan.placements.length < requests.length * 0.95)
      throw new Error("the fleet is too full to measure placements");
    if (round > 0) rates.push(plan.placements.length / seconds);
  }
  return Math.round(rates.sort((a, b) => a - b)[Math.floor(rates.length / 2)] ?? 0);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function format(rate: number | undefined): string {
  return Math.round(rate ?? 0)
    .toLocaleString("en")
    .padStart(17);
}
