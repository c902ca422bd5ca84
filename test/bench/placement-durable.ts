import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type DurableCluster, postgresSettings, startDurableCluster } from "./durable-cluster.ts";

/**
 * Placements per second through the whole path: API request, intent in Postgres, job, plan, booking in Postgres.
 *
 * A placement counts when its transaction is committed, as Postgres itself recorded it (pg_xact_commit_timestamp of the row's
 * xmin), against the clock of this process on the same machine; nothing is inferred from polling. The simulated hosts run the
 * real agent protocol on the same cores all the while, so what it costs to tell hosts of their sets is in the figures; what the hosts do
 * by themselves is done with what is left of the cores (see main-processes.ts), and how long it takes until all sets run is told.
 */

const HOSTS = 5_000;
const ONE_SERVICE_SETS = 20_000;
const MANY_SERVICES = 1_000;
const SETS_PER_SERVICE = 10;
const CLIENTS = 32;
const UNLOADED_SAMPLES = 300;
const FILLED_SETS = 100_000;
const PHASE_DEADLINE_MS = 300_000;
/** Between unloaded samples: the last set is running by then, and nothing is under way. */
const QUIET_MS = 15;

interface Phase {
  name: string;
  placements: number;
  /** Request sent to last placement committed. */
  totalMs: number;
  /** Request sent to the (last) intent committed. */
  acceptedMs: number;
  /** Request sent to all sets running, as their hosts' agents have said; to a tenth of a second. */
  runningMs: number;
  /** Transactions that booked placements. */
  commits: number;
  cpuSeconds: Record<string, number>;
}

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { values } = parseArgs({
    args: [...(options.args ?? [])],
    strict: false,
    options: {
      hosts: { type: "string" },
      sets: { type: "string" },
      fill: { type: "string" },
      statements: { type: "boolean" },
    },
  });
  const hosts = numberOf(values["hosts"], HOSTS);
  const sets = numberOf(values["sets"], ONE_SERVICE_SETS);
  const fill = numberOf(values["fill"], FILLED_SETS);
  const say = (text: string): void => void process.stdout.write(`${text}\n`);
  say(
    `Postgres: ${Object.entries(postgresSettings)
      .map(([name, value]) => `${name}=${value}`)
      .join(" ")}`,
  );
  const startedAtMs = performance.now();
  let lastTold = "";
  const cluster = await startDurableCluster({
    hosts,
    simulationProcesses: 2,
    statements: values["statements"] === true,
    onProgress: (text) => {
      lastTold = text;
    },
  });
  const tell = async (text: string): Promise<void> => {
    say(text);
    if (values["statements"] === true) say(await describeStatements(cluster));
  };
  try {
    if (values["statements"] === true) await cluster.sql`create extension pg_stat_statements`;
    say(`${lastTold} in ${seconds(performance.now() - startedAtMs)}`);
    await untilHostsReady(cluster, hosts);
    const unloaded = await measureUnloaded(cluster);
    await tell(describeUnloaded(unloaded));
    const one = await measureOneService(cluster, sets);
    await tell(describePhase(one));
    const many = await measureManyServices(cluster);
    await tell(describePhase(many));
    await fillUp(cluster, fill);
    await delay(5_000);
    const memory = cluster.jobWorkerMemory();
    say(
      `job worker at ${hosts} hosts and ${await countPlaced(cluster)} sets: ${memory.rssMb} MB resident, ${memory.peakMb} MB at its highest`,
    );
    return {
      hosts,
      oneServicePerSecond: perSecond(one),
      manyServicesPerSecond: perSecond(many),
      unloadedP50Ms: percentile(
        unloaded.map(({ placedMs }) => placedMs),
        50,
      ),
      unloadedP99Ms: percentile(
        unloaded.map(({ placedMs }) => placedMs),
        99,
      ),
      jobWorkerRssMb: memory.rssMb,
      jobWorkerPeakMb: memory.peakMb,
      unloadedAcceptedP50Ms: percentile(
        unloaded.map(({ acceptedMs }) => acceptedMs),
        50,
      ),
      phases: [one, many],
    };
  } finally {
    await cluster.stop();
  }
}

function numberOf(text: unknown, otherwise: number): number {
  const value = Number(text);
  return Number.isInteger(value) && value > 0 ? value : otherwise;
}

function serviceBody(name: string, replicas: number): unknown {
  return {
    name,
    replicas,
    template: {
      cpu: 1,
      memory: "2Gi",
      rootfs: "1Gi",
      containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
    },
  };
}

/** Milliseconds since the epoch to the microsecond, on the clock that Postgres reads. */
function epochClock(): () => number {
  const tick = Date.now();
  let now = Date.now();
  while (now === tick) now = Date.now();
  const offset = now - performance.now();
  return () => performance.now() + offset;
}

async function untilHostsReady(cluster: DurableCluster, hosts: number): Promise<void> {
  await until("hosts are ready", async () => {
    const [row] = await cluster.sql<{ count: number }[]>`
      select count(*)::int as count from hosts where state = 'ready' and reported_at is not null`;
    return row?.count === hosts;
  });
}

async function until(what: string, probe: () => Promise<boolean>, everyMs = 100): Promise<void> {
  const deadline = performance.now() + PHASE_DEADLINE_MS;
  while (!(await probe())) {
    if (performance.now() > deadline)
      throw new Error(`${what}: not within ${PHASE_DEADLINE_MS} ms`);
    await delay(everyMs);
  }
}

async function countPlaced(cluster: DurableCluster): Promise<number> {
  const [row] = await cluster.sql<
    { count: number }[]
  >`select count(*)::int as count from placements`;
  return row?.count ?? 0;
}

interface UnloadedSample {
  acceptedMs: number;
  respondedMs: number;
  placedMs: number;
}

/** One service of one set at a time, with nothing else under way. */
async function measureUnloaded(cluster: DurableCluster): Promise<UnloadedSample[]> {
  const now = epochClock();
  const sent = new Map<string, { sentAtMs: number; respondedMs: number }>();
  for (let sample = 0; sample < UNLOADED_SAMPLES; sample++) {
    const name = `solo-${sample}`;
    const sentAtMs = now();
    const { service } = await cluster.request<{ service: { id: string } }>(
      "POST",
      "/v1/services",
      serviceBody(name, 1),
    );
    sent.set(name, { sentAtMs, respondedMs: now() - sentAtMs });
    await until(`${name} runs`, () => isRunning(cluster, service.id), 5);
    await delay(QUIET_MS);
  }
  const rows = await cluster.sql<{ name: string; accepted: number; placed: number }[]>`
    select services.name,
      extract(epoch from pg_xact_commit_timestamp(events.xmin))::float8 * 1000 as accepted,
      extract(epoch from pg_xact_commit_timestamp(placements.xmin))::float8 * 1000 as placed
    from services
      join sets on sets.service_id = services.id
      join placements on placements.set_id = sets.id
      join events on events.service_id = services.id and events.kind = 'service-created'
    where services.name like 'solo-%'`;
  return rows.flatMap(({ name, accepted, placed }) => {
    const at = sent.get(name);
    if (!at) return [];
    const { sentAtMs, respondedMs } = at;
    return [{ respondedMs, acceptedMs: accepted - sentAtMs, placedMs: placed - sentAtMs }];
  });
}

async function isRunning(cluster: DurableCluster, serviceId: string): Promise<boolean> {
  const rows = await cluster.sql`
    select 1 from sets where service_id = ${serviceId} and deleted_at is null and state = 'running'`;
  return rows.length > 0;
}

async function measureOneService(cluster: DurableCluster, sets: number): Promise<Phase> {
  await cluster.request("POST", "/v1/services", serviceBody("one", 0));
  return await measurePhase(
    cluster,
    `1 service scaled to ${sets} sets`,
    sets,
    "service-scaled",
    async () => {
      await cluster.request("POST", "/v1/services/one/scale", { replicas: sets });
    },
  );
}

async function measureManyServices(cluster: DurableCluster): Promise<Phase> {
  const name = `${MANY_SERVICES} services of ${SETS_PER_SERVICE} sets`;
  return await measurePhase(
    cluster,
    name,
    MANY_SERVICES * SETS_PER_SERVICE,
    "service-created",
    async () => {
      let next = 0;
      const client = async (): Promise<void> => {
        while (next < MANY_SERVICES) {
          const number = next++;
          await cluster.request(
            "POST",
            "/v1/services",
            serviceBody(`many-${number}`, SETS_PER_SERVICE),
          );
        }
      };
      await Promise.all(Array.from({ length: CLIENTS }, client));
    },
  );
}

async function measurePhase(
  cluster: DurableCluster,
  name: string,
  placements: number,
  acceptedEvent: string,
  send: () => Promise<void>,
): Promise<Phase> {
  await untilQuiet(cluster);
  const before = await countPlaced(cluster);
  const now = epochClock();
  const cpuBefore = cluster.cpuSeconds();
  const sentAtMs = now();
  await send();
  await until(name, async () => (await countPlaced(cluster)) >= before + placements, 200);
  const cpuAfter = cluster.cpuSeconds();
  const since = new Date(sentAtMs - 1).toISOString();
  const [row] = await cluster.sql<{ last: number; commits: number; accepted: number }[]>`
    with booked as (
      select pg_xact_commit_timestamp(xmin) as at from placements where created_at >= ${since}::timestamptz
    ), accepted as (
      select pg_xact_commit_timestamp(xmin) as at from events
      where kind = ${acceptedEvent} and events.at >= ${since}::timestamptz
    )
    select extract(epoch from (select max(at) from booked))::float8 * 1000 as last,
      (select count(distinct at)::int from booked) as commits,
      extract(epoch from (select max(at) from accepted))::float8 * 1000 as accepted`;
  if (!row) throw new Error("an aggregate has a row");
  await untilAllRun(cluster);
  const runningMs = now() - sentAtMs;
  const roles = Object.keys(cpuBefore) as (keyof typeof cpuBefore)[];
  return {
    name,
    placements,
    totalMs: row.last - sentAtMs,
    acceptedMs: row.accepted - sentAtMs,
    runningMs,
    commits: row.commits,
    cpuSeconds: Object.fromEntries(
      roles.map((role) => [role, Math.round((cpuAfter[role] - cpuBefore[role]) * 100) / 100]),
    ),
  };
}

/** All placed sets are running and reported: the next phase starts with idle processes. */
async function untilQuiet(cluster: DurableCluster): Promise<void> {
  await untilAllRun(cluster);
  await delay(1_000);
}

async function untilAllRun(cluster: DurableCluster): Promise<void> {
  await until("all sets run", async () => {
    const rows =
      await cluster.sql`select 1 from sets where state <> 'running' and deleted_at is null limit 1`;
    return rows.length === 0;
  });
}

async function fillUp(cluster: DurableCluster, sets: number): Promise<void> {
  for (let part = 0; ; part++) {
    const missing = sets - (await countPlaced(cluster));
    if (missing <= 0) break;
    const replicas = Math.min(missing, ONE_SERVICE_SETS);
    const before = await countPlaced(cluster);
    await cluster.request("POST", "/v1/services", serviceBody(`fill-${part}`, replicas));
    await until("filled", async () => (await countPlaced(cluster)) >= before + replicas, 500);
  }
  await untilQuiet(cluster);
}

function perSecond({ placements, totalMs }: Phase): number {
  return Math.round((placements * 1000) / totalMs);
}

function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value =
    sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? 0;
  return Math.round(value * 100) / 100;
}

function seconds(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)} s`;
}

/** Where the time goes, as far as it shows from outside: until the intent is durable, then until the last booking is. */
function describePhase(phase: Phase): string {
  const cpu = Object.entries(phase.cpuSeconds)
    .map(([role, used]) => `${role} ${used.toFixed(1)}`)
    .join(", ");
  return [
    "",
    `${phase.name}: ${perSecond(phase)} placements/s`,
    `  request sent -> ${phase.placements} placements committed   ${phase.totalMs.toFixed(0)} ms`,
    `    request sent -> last intent committed       ${phase.acceptedMs.toFixed(0)} ms`,
    `    from there   -> last placement committed    ${(phase.totalMs - phase.acceptedMs).toFixed(0)} ms, ${phase.commits} commits in all`,
    `    request sent -> all sets running            ${phase.runningMs.toFixed(0)} ms`,
    `  CPU seconds until the last was seen: ${cpu}`,
  ].join("\n");
}

const STATEMENTS_MAX = 16;
const STATEMENT_LENGTH_MAX = 150;

/** What Postgres spent the most time on since the last call. */
async function describeStatements({ sql }: DurableCluster): Promise<string> {
  const rows = await sql<
    { calls: number; ms: number; planMs: number; read: number; query: string }[]
  >`
    select calls::int as calls, (total_exec_time + total_plan_time)::float8 as ms, total_plan_time::float8 as "planMs",
      rows::int as read, query
    from pg_stat_statements order by 2 desc limit ${STATEMENTS_MAX}`;
  await sql`select pg_stat_statements_reset()`;
  const lines = rows.map(({ calls, ms, planMs, read, query }) => {
    const text = query.replaceAll(/\s+/g, " ").slice(0, STATEMENT_LENGTH_MAX);
    return `  ${ms.toFixed(0).padStart(7)} ms (${planMs.toFixed(0)} planning) ${String(calls).padStart(7)} calls ${String(read).padStart(8)} rows  ${text}`;
  });
  return ["  Postgres's statements by time:", ...lines].join("\n");
}

function describeUnloaded(samples: readonly UnloadedSample[]): string {
  const row = (name: string, values: readonly number[]): string =>
    `  ${name.padEnd(42)}${String(percentile(values, 50)).padStart(8)}${String(percentile(values, 99)).padStart(8)}`;
  return [
    "",
    `one set, unloaded, ${samples.length} times (ms)                p50     p99`,
    row(
      "request sent -> intent committed",
      samples.map(({ acceptedMs }) => acceptedMs),
    ),
    row(
      "intent committed -> placement committed",
      samples.map(({ placedMs, acceptedMs }) => placedMs - acceptedMs),
    ),
    row(
      "request sent -> placement committed",
      samples.map(({ placedMs }) => placedMs),
    ),
    row(
      "request sent -> response received",
      samples.map(({ respondedMs }) => respondedMs),
    ),
  ].join("\n");
}
