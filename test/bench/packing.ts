import { parseArgs } from "node:util";
import { createFleet, type Fleet } from "../../src/scheduler/fleet.ts";
import type { HostSnapshot, PlacementConstraints, Resources } from "../../src/scheduler/model.ts";
import { planPlacements } from "../../src/scheduler/plan.ts";
import { chooseByScore, type OpenHost, referencePolicies } from "./reference-policies.ts";
import {
  type Ask,
  type Capacity,
  createRandom,
  dlrmHost,
  pick,
  readDlrmArrivals,
  readHosts,
  readPods,
} from "./traces.ts";

/**
 * How tightly sets are packed when they come one by one and nothing is known of the next, beside other schedulers' policies
 * on the same sequences. Berth's part is `planPlacements` with one request a call, as production uses it; sequences are
 * consecutive windows of a trace (dlrm) or draws from it (openb), and every figure is the median over them.
 *
 * - dlrm: hosts used over the lower bound (the largest over dimensions of demand / capacity), three dimensions.
 * - openb: percent of a real fleet's CPU that is allocated when the first set fits nowhere.
 */

const DLRM_INSTANCES = 4_000;
const DLRM_WINDOWS = 4;
/** A host for every 2.5 instances: twice what any policy comes to need. */
const DLRM_HOSTS = 1_600;
const OPENB_SEEDS = [1, 2, 3, 4, 5];
/** Draws go on to this share of the fleet's CPU: the first set that fits nowhere comes before. */
const OPENB_DEMAND_PERCENT = 130;
const ZONES = 4;
const ZONE_SKEW_MAX = 1;
const POOL = "default";
const NOW_MS = 1_000;
const BYTES_PER_MIB = 2 ** 20;

interface Outcome {
  hostsUsed: number;
  placed: number;
  cpuMillis: number;
}

type Figures = Record<string, number>;

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { values } = parseArgs({
    args: [...(options.args ?? [])],
    options: { nodes: { type: "string" }, pods: { type: "string" } },
  });
  const dlrm = measureDlrm(false);
  const dlrmSpread = measureDlrm(true);
  const openb = measureOpenb(values.nodes, values.pods);
  describe("dlrm: hosts used / lower bound (lower is better)", dlrm.figures, 4);
  describe(`dlrm, each service spread over ${ZONES} zones`, dlrmSpread.figures, 4);
  describe("openb: percent of CPU allocated at the first rejection", openb.figures, 2);
  return Promise.resolve({
    dlrm: { ...summarize(dlrm.figures, Math.min), source: dlrm.source, policies: dlrm.figures },
    dlrmSpread: { ...summarize(dlrmSpread.figures, Math.min), policies: dlrmSpread.figures },
    openb: { ...summarize(openb.figures, Math.max), source: openb.source, policies: openb.figures },
  });
}

function measureDlrm(isSpread: boolean): { source: string; figures: Figures } {
  const { source, asks } = readDlrmArrivals();
  const hosts = Array.from({ length: DLRM_HOSTS }, () => dlrmHost);
  const windows = Array.from({ length: DLRM_WINDOWS }, (_, position) =>
    asks.slice(position * DLRM_INSTANCES, (position + 1) * DLRM_INSTANCES),
  ).filter((window) => window.length === DLRM_INSTANCES);
  const figures = medians(windows, (window, policy) => {
    const outcome = pack(policy, hosts, window, isSpread);
    if (outcome.placed < window.length) throw new Error(`${policy} left sets without a host`);
    return outcome.hostsUsed / lowerBound(window, dlrmHost);
  });
  return { source, figures };
}

function measureOpenb(
  nodes: string | undefined,
  pods: string | undefined,
): { source: string; figures: Figures } {
  const hosts = readHosts(nodes);
  const { source, asks } = readPods(pods);
  const fleetCpuMillis = hosts.reduce((sum, [cpuMillis]) => sum + cpuMillis, 0);
  const sequences = OPENB_SEEDS.map((seed) => {
    const random = createRandom(seed);
    const sequence: Ask[] = [];
    let cpuMillis = 0;
    while (cpuMillis * 100 < fleetCpuMillis * OPENB_DEMAND_PERCENT) {
      const ask = pick(asks, random);
      cpuMillis += ask.amounts[0];
      sequence.push(ask);
    }
    return sequence;
  });
  const figures = medians(sequences, (sequence, policy) => {
    const outcome = pack(policy, hosts, sequence, false);
    return (100 * outcome.cpuMillis) / fleetCpuMillis;
  });
  return { source, figures };
}

/** Of each policy, the median over sequences. */
function medians(
  sequences: readonly (readonly Ask[])[],
  measure: (sequence: readonly Ask[], policy: string) => number,
): Figures {
  const figures: Figures = {};
  for (const policy of ["berth", ...Object.keys(referencePolicies)]) {
    const sorted = sequences.map((sequence) => measure(sequence, policy)).sort((a, b) => a - b);
    const middle = sorted[Math.floor((sorted.length - 1) / 2)];
    if (middle === undefined) throw new Error("the trace is too short for one sequence");
    const other = sorted[Math.ceil((sorted.length - 1) / 2)] ?? middle;
    figures[policy] = (middle + other) / 2;
  }
  return figures;
}

/** Places a sequence up to its end or the first set that fits nowhere. */
function pack(
  policy: string,
  hosts: readonly Capacity[],
  sequence: readonly Ask[],
  isSpread: boolean,
): Outcome {
  return policy === "berth"
    ? packWithBerth(hosts, sequence, isSpread)
    : packWithReference(policy, hosts, sequence, isSpread);
}

function packWithBerth(
  hosts: readonly Capacity[],
  sequence: readonly Ask[],
  isSpread: boolean,
): Outcome {
  const fleet = createFleet({
    version: 1,
    reportAgeMaxMs: 60_000,
    pools: [{ pool: POOL, overcommitPercent: percent(100), highWaterPercent: percent(100) }],
  });
  for (const [position, capacity] of hosts.entries()) {
    fleet.upsertHost(emptyHost(position, capacity));
  }
  const constraints = constraintsOf(isSpread);
  const used = new Set<string>();
  let cpuMillis = 0;
  let placed = 0;
  for (const { service, amounts } of sequence) {
    const setId = `set_${String(placed).padStart(8, "0")}`;
    const ask = resourcesOf(amounts);
    const request = { setId, serviceId: service, ask, priority: 0, constraints, images: [] };
    const plan = planPlacements(fleet, [{ ...request, avoidHostIds: [] }], {
      seed: 1,
      nowMs: NOW_MS,
    });
    const placement = plan.placements[0];
    if (!placement) break;
    commit(fleet, { setId, serviceId: service, hostId: placement.hostId, ask });
    used.add(placement.hostId);
    cpuMillis += ask.cpuMillis;
    placed++;
  }
  return { hostsUsed: used.size, placed, cpuMillis };
}

/** What the job worker's next refresh would bring: the host with more booked on it, and the set. */
function commit(
  fleet: Fleet,
  set: { setId: string; serviceId: string; hostId: string; ask: Resources },
): void {
  const host = fleet.getHost(set.hostId);
  if (!host) throw new Error(`placed on a host that is not there: ${set.hostId}`);
  const allocated = {
    cpuMillis: host.allocated.cpuMillis + set.ask.cpuMillis,
    memoryBytes: host.allocated.memoryBytes + set.ask.memoryBytes,
    volumeBytes: host.allocated.volumeBytes + set.ask.volumeBytes,
    rootfsBytes: host.allocated.rootfsBytes + set.ask.rootfsBytes,
  };
  fleet.upsertHost({ ...host, allocated });
  fleet.upsertSet({ id: set.setId, serviceId: set.serviceId, hostId: set.hostId });
}

/** Hosts are opened in order, one more only when no open one will do. */
function packWithReference(
  policy: string,
  hosts: readonly Capacity[],
  sequence: readonly Ask[],
  isSpread: boolean,
): Outcome {
  const score = referencePolicies[policy];
  if (!score) throw new Error(`no such policy: ${policy}`);
  const isFixedFleet = new Set(hosts).size > 1; // a real fleet is there from the start; equal hosts are added as needed
  const open: OpenHost[] = [];
  const addHost = () => {
    const capacity = hosts[open.length];
    if (capacity) open.push({ capacity, free: [...capacity] });
    return capacity !== undefined;
  };
  if (isFixedFleet) while (addHost());
  const counts = new Map<string, number[]>();
  const used = new Set<number>();
  let cpuMillis = 0;
  let placed = 0;
  for (const { service, amounts } of sequence) {
    const zones = counts.get(service) ?? Array.from({ length: ZONES }, () => 0);
    counts.set(service, zones);
    const lowest = Math.min(...zones);
    const admits = (position: number) =>
      !isSpread || (zones[position % ZONES] ?? 0) + 1 - lowest <= ZONE_SKEW_MAX;
    let position = chooseByScore(open, amounts, score, admits);
    while (position < 0 && addHost()) position = chooseByScore(open, amounts, score, admits);
    const host = open[position];
    if (!host) break;
    for (const [d, amount] of amounts.entries()) host.free[d] = (host.free[d] ?? 0) - amount;
    zones[position % ZONES] = (zones[position % ZONES] ?? 0) + 1;
    used.add(position);
    cpuMillis += amounts[0];
    placed++;
  }
  return { hostsUsed: used.size, placed, cpuMillis };
}

function lowerBound(asks: readonly Ask[], capacity: Capacity): number {
  const demands = capacity.map((room, d) =>
    room === 0 ? 0 : asks.reduce((sum, { amounts }) => sum + (amounts[d] ?? 0), 0) / room,
  );
  return Math.max(...demands);
}

function constraintsOf(isSpread: boolean): PlacementConstraints {
  return {
    strategy: "pack",
    spread: isSpread ? [{ by: "zone", maxSkew: ZONE_SKEW_MAX }] : [],
    antiAffinity: [],
    affinity: [],
    hostLabels: {},
    tolerations: [],
    pool: POOL,
  };
}

function emptyHost(position: number, capacity: Capacity): HostSnapshot {
  const zone = `zone-${position % ZONES}`;
  return {
    id: `host_${String(position).padStart(6, "0")}`,
    pool: POOL,
    zone,
    rack: `${zone}-rack`,
    labels: {},
    taints: [],
    readiness: "ready",
    allocatable: resourcesOf(capacity),
    allocated: percent(0),
    reported: { used: percent(0), atMs: NOW_MS },
    placedSinceReport: percent(0),
    reclaimableVolumeBytes: 0,
    images: [],
  };
}

/** The traces' disk is the volume of a set; they know of no root file systems. */
function resourcesOf([cpuMillis, memoryMib, diskMib]: Capacity): Resources {
  return {
    cpuMillis,
    memoryBytes: memoryMib * BYTES_PER_MIB,
    volumeBytes: diskMib * BYTES_PER_MIB,
    rootfsBytes: 0,
  };
}

function percent(value: number): Resources {
  return { cpuMillis: value, memoryBytes: value, volumeBytes: value, rootfsBytes: value };
}

function summarize(figures: Figures, best: (...values: number[]) => number): Figures {
  const { berth = Number.NaN, ...references } = figures;
  return { berth, bestReference: best(...Object.values(references)) };
}

function describe(title: string, figures: Figures, digits: number): void {
  process.stdout.write(`\n${title}\n`);
  for (const [policy, value] of Object.entries(figures)) {
    process.stdout.write(`  ${policy.padEnd(16)} ${value.toFixed(digits)}\n`);
  }
}
