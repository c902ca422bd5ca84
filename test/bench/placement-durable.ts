import { setTimeout as delay } from "node:timers/promises";
import { type DurableCluster, postgresSettings, startDurableCluster } from "./durable-cluster.ts";
import {
  createProbeTokens,
  enrollProbeHosts,
  startAuthProbe,
  startSyncProbe,
} from "./latency-probes.ts";
import { median, percentile } from "./percentile.ts";
import {
  type FloorRun,
  type PlacementFloor,
  perSecondOf,
  preparePlacementFloor,
} from "./placement-floor.ts";
import {
  countPlaced,
  describePhase,
  measurePhase,
  perSecond,
  type Phase,
  placeOneSet,
  serviceBody,
  type SingleSetSample,
  until,
  untilHostsReady,
  untilQuiet,
} from "./placement-phases.ts";
import { readOptions } from "./read-options.ts";
import { describeStatements } from "./statement-times.ts";

/**
 * Placements per second over the whole path: API request, intent in Postgres, job, plan, booking in
 * Postgres.
 *
 * A placement counts when its transaction is committed. Postgres records that time itself
 * (pg_xact_commit_timestamp of the row's xmin), on the clock of this machine; polling adds nothing
 * to it. The simulated hosts run the real agent protocol on the same cores, at nice 10 (see
 * main-processes.ts).
 *
 * Each figure has its counterpart from the same run: the bare statement beside the rates, one-row
 * commits beside the latency of a single set. While the load runs, probes measure authentication
 * and idle syncs. `hostTimeouts` covers the same time, and not the fill before the memory is read.
 */

const HOSTS = 5_000;
const ONE_SERVICE_SETS = 20_000;
const MANY_SERVICES = 1_000;
const SETS_PER_SERVICE = 10;
const CLIENTS = 32;
const UNLOADED_SAMPLES = 300;
const QUIET_SAMPLES = 3;
const QUIET_SECONDS = 60;
const FILLED_SETS = 100_000;
/** Between unloaded samples. The last set runs by then. */
const PAUSE_MS = 15;
/** Enough for a probe every 50 ms over both phases of a slow machine. */
const PROBE_TOKENS = 6_000;

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const {
    hosts,
    statements: withStatements,
    "one-api": hasOneApi,
    ...sizes
  } = readOptions(options.args, {
    hosts: HOSTS,
    sets: ONE_SERVICE_SETS,
    services: MANY_SERVICES,
    fill: FILLED_SETS,
    "quiet-seconds": QUIET_SECONDS,
    statements: false,
    "one-api": false,
  });
  say(
    `Postgres: ${Object.entries(postgresSettings)
      .map(([name, value]) => `${name}=${value}`)
      .join(" ")}`,
  );
  const startedAtMs = performance.now();
  let progress = "";
  const cluster = await startDurableCluster({
    hosts,
    simulationProcesses: 2,
    hasOneApi,
    statements: withStatements,
    onProgress: (text) => {
      progress = text;
    },
  });
  try {
    if (withStatements) await cluster.sql`create extension pg_stat_statements`;
    say(`${progress} in ${seconds(performance.now() - startedAtMs)}`);
    await untilHostsReady(cluster, hosts);
    return await measure(cluster, {
      hosts,
      sets: sizes.sets,
      services: sizes.services,
      fill: sizes.fill,
      quietSeconds: sizes["quiet-seconds"],
      report: async (text) => {
        say(text);
        if (withStatements) say(await describeStatements(cluster));
      },
    });
  } finally {
    await cluster.stop();
  }
}

interface Sizes {
  hosts: number;
  sets: number;
  services: number;
  fill: number;
  quietSeconds: number;
  report: (text: string) => Promise<void>;
}

async function measure(cluster: DurableCluster, sizes: Sizes): Promise<Record<string, unknown>> {
  const { hosts, sets, services, fill, quietSeconds, report } = sizes;
  const floor = await prepareFloor(cluster);
  try {
    const { samples, commitsMs } = await measureUnloaded(cluster, floor);
    await report(describeUnloaded(samples, commitsMs));
    const quietMs = await measureAfterQuiet(cluster, quietSeconds);
    const tokens = await createProbeTokens(cluster, PROBE_TOKENS);
    const probeHosts = await enrollProbeHosts(cluster);
    await untilQuiet(cluster);
    const floorRuns: FloorRun[] = [await floor.measurePlacement(sets)];
    const timeoutsBefore = cluster.hostTimeouts();
    const authProbe = startAuthProbe(cluster, tokens, "solo-0");
    const syncProbe = startSyncProbe(cluster, probeHosts);
    const one = await measureOneService(cluster, sets);
    await report(describePhase(one));
    const many = await measureManyServices(cluster, services);
    await report(describePhase(many));
    const [authMs, syncMs] = await Promise.all([authProbe.stop(), syncProbe.stop()]);
    const hostTimeouts = cluster.hostTimeouts() - timeoutsBefore;
    floorRuns.push(await floor.measurePlacement(sets));
    await fillUp(cluster, fill);
    await delay(5_000);
    const memory = cluster.jobWorkerMemory();
    say(
      `job worker at ${hosts} hosts and ${await countPlaced(cluster)} sets: ${memory.rssMb} MB resident, ${memory.peakMb} MB at its peak`,
    );
    const result = {
      hosts,
      oneServicePerSecond: perSecond(one),
      manyServicesPerSecond: perSecond(many),
      floorPerSecond: perSecondOf(floorRuns),
      commitP50Ms: median(commitsMs),
      unloadedP50Ms: median(samples.map(({ placedMs }) => placedMs)),
      unloadedP99Ms: percentile(
        samples.map(({ placedMs }) => placedMs),
        99,
      ),
      quietMs,
      hostTimeouts,
      syncP99Ms: percentile(syncMs, 99),
      authP99Ms: percentile(authMs, 99),
      jobWorkerRssMb: memory.rssMb,
      jobWorkerPeakMb: memory.peakMb,
      phases: [one, many],
    };
    say(describeTargets(result));
    return result;
  } finally {
    await floor.stop();
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Copies a set that no host can take, then deletes it, so that no retry disturbs a measurement. */
async function prepareFloor(cluster: DurableCluster): Promise<PlacementFloor> {
  const { service } = await cluster.request<{ service: { id: string } }>(
    "POST",
    "/v1/services",
    serviceBody("floor", 1, { hostLabels: { floor: "nowhere" } }),
  );
  const floor = await preparePlacementFloor(cluster.sql, cluster.databaseUrl, service.id);
  await cluster.request("DELETE", "/v1/services/floor");
  return floor;
}

/** Places one service of one set at a time on an idle cluster, each beside a one-row commit. */
async function measureUnloaded(
  cluster: DurableCluster,
  floor: PlacementFloor,
): Promise<{ samples: SingleSetSample[]; commitsMs: number[] }> {
  const samples: SingleSetSample[] = [];
  const commitsMs: number[] = [];
  for (let number = 0; number < UNLOADED_SAMPLES; number++) {
    samples.push(await placeOneSet(cluster, `solo-${number}`));
    await delay(PAUSE_MS);
    commitsMs.push(await floor.measureCommit());
  }
  return { samples, commitsMs };
}

/** Returns the median of the first placements after so many quiet seconds. */
async function measureAfterQuiet(cluster: DurableCluster, quietSeconds: number): Promise<number> {
  const placedMs: number[] = [];
  for (let number = 0; number < QUIET_SAMPLES; number++) {
    await delay(quietSeconds * 1_000);
    placedMs.push((await placeOneSet(cluster, `quiet-${number}`)).placedMs);
  }
  say(
    `first placement after ${quietSeconds} quiet seconds: ${placedMs.map((ms) => ms.toFixed(1)).join(", ")} ms`,
  );
  return median(placedMs);
}

async function measureOneService(cluster: DurableCluster, sets: number): Promise<Phase> {
  await cluster.request("POST", "/v1/services", serviceBody("one", 0));
  const name = `1 service scaled to ${sets} sets`;
  const phase = { name, placements: sets, acceptedEvent: "service-scaled" };
  return await measurePhase(cluster, phase, async () => {
    await cluster.request("POST", "/v1/services/one/scale", { replicas: sets });
  });
}

async function measureManyServices(cluster: DurableCluster, services: number): Promise<Phase> {
  const name = `${services} services of ${SETS_PER_SERVICE} sets`;
  const placements = services * SETS_PER_SERVICE;
  const phase = { name, placements, acceptedEvent: "service-created" };
  return await measurePhase(cluster, phase, async () => {
    let next = 0;
    const client = async (): Promise<void> => {
      while (next < services) {
        const body = serviceBody(`many-${next++}`, SETS_PER_SERVICE);
        await cluster.request("POST", "/v1/services", body);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
  });
}

async function fillUp(cluster: DurableCluster, sets: number): Promise<void> {
  for (let part = 0; ; part++) {
    const missing = sets - (await countPlaced(cluster));
    if (missing <= 0) break;
    const replicas = Math.min(missing, ONE_SERVICE_SETS);
    const before = await countPlaced(cluster);
    await cluster.request("POST", "/v1/services", serviceBody(`fill-${part}`, replicas));
    await until(
      "all sets are placed",
      async () => {
        return (await countPlaced(cluster)) >= before + replicas;
      },
      500,
    );
  }
  await untilQuiet(cluster);
}

function seconds(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)} s`;
}

function describeUnloaded(
  samples: readonly SingleSetSample[],
  commitsMs: readonly number[],
): string {
  const row = (name: string, values: readonly number[]): string =>
    `  ${name.padEnd(42)}${String(median(values)).padStart(8)}${String(percentile(values, 99)).padStart(8)}`;
  const fromIntent = samples.map(({ placedMs, acceptedMs }) => placedMs - acceptedMs);
  const values = (name: keyof SingleSetSample): number[] => samples.map((sample) => sample[name]);
  return [
    "",
    `one set, unloaded, ${samples.length} times (ms)                p50     p99`,
    row("one-row commit", commitsMs),
    row("request sent -> intent committed", values("acceptedMs")),
    row("intent committed -> placement committed", fromIntent),
    row("request sent -> placement committed", values("placedMs")),
    row("request sent -> response received", values("respondedMs")),
  ].join("\n");
}

/** Shows both sides of each ratio, and the target. */
function describeTargets(figures: {
  oneServicePerSecond: number;
  manyServicesPerSecond: number;
  floorPerSecond: number;
  commitP50Ms: number;
  unloadedP50Ms: number;
  quietMs: number;
  hostTimeouts: number;
  syncP99Ms: number;
  authP99Ms: number;
}): string {
  const { floorPerSecond: floor, commitP50Ms: commit } = figures;
  const ratio = (value: number, base: number): string => (value / base).toFixed(2);
  return [
    "",
    `one service:    ${figures.oneServicePerSecond}/s of the floor's ${floor}/s = ${ratio(figures.oneServicePerSecond, floor)} (target: at least 0.5)`,
    `many services:  ${figures.manyServicesPerSecond}/s of the floor's ${floor}/s = ${ratio(figures.manyServicesPerSecond, floor)} (target: at least 0.2)`,
    `unloaded p50:   ${figures.unloadedP50Ms} ms / commit ${commit} ms = ${ratio(figures.unloadedP50Ms, commit)} (target: at most 10)`,
    `after quiet:    ${figures.quietMs} ms / commit ${commit} ms = ${ratio(figures.quietMs, commit)} (target: at most 10)`,
    `host timeouts:  ${figures.hostTimeouts} (target: 0)`,
    `idle sync p99:  ${figures.syncP99Ms} ms (target: under 1000)`,
    `auth p99:       ${figures.authP99Ms} ms (target: under 50)`,
  ].join("\n");
}
