import { setTimeout as delay } from "node:timers/promises";
import type { DurableCluster } from "./durable-cluster.ts";

/**
 * Operations of the placement benchmarks on a cluster: create services, wait, and read commit
 * times.
 */

const PHASE_DEADLINE_MS = 1_800_000;
const SETTLE_MS = 1_000;

export interface Phase {
  name: string;
  placements: number;
  /** From sending the request to the commit of the last placement. */
  totalMs: number;
  /** From sending the request to the commit of the (last) intent. */
  acceptedMs: number;
  /**
   * From sending the request until the agents report all sets as running, to a tenth of a second.
   */
  runningMs: number;
  /** Transactions that booked placements. */
  commits: number;
  cpuSeconds: Record<string, number>;
}

export function serviceBody(
  name: string,
  replicas: number,
  { cpu = 1, hostLabels = {} }: { cpu?: number; hostLabels?: Record<string, string> } = {},
): unknown {
  return {
    name,
    replicas,
    template: {
      cpu,
      memory: "2Gi",
      rootfs: "1Gi",
      containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
    },
    placement: { hostLabels },
  };
}

/** Returns milliseconds since the epoch to the microsecond, on the clock that Postgres reads. */
export function epochClock(): () => number {
  const tick = Date.now();
  let now = Date.now();
  while (now === tick) now = Date.now();
  const offset = now - performance.now();
  return () => performance.now() + offset;
}

/** Polls `probe` until it is true. Rejects after half an hour. */
export async function until(
  condition: string,
  probe: () => Promise<boolean>,
  everyMs = 100,
): Promise<void> {
  const deadline = performance.now() + PHASE_DEADLINE_MS;
  while (!(await probe())) {
    if (performance.now() > deadline) {
      throw new Error(`${condition}: not within ${PHASE_DEADLINE_MS} ms`);
    }
    await delay(everyMs);
  }
}

export async function untilHostsReady(cluster: DurableCluster, hosts: number): Promise<void> {
  await until("hosts are ready", async () => {
    const [row] = await cluster.sql<{ count: number }[]>`
      select count(*)::int as count from hosts where state = 'ready' and reported_at is not null`;
    return (row?.count ?? 0) >= hosts;
  });
}

export async function countPlaced(cluster: DurableCluster): Promise<number> {
  const [row] = await cluster.sql<
    { count: number }[]
  >`select count(*)::int as count from placements`;
  return row?.count ?? 0;
}

/**
 * Waits until all placed sets run, and a moment longer: the next phase starts with idle processes.
 */
export async function untilQuiet(cluster: DurableCluster): Promise<void> {
  await untilAllRun(cluster);
  await delay(SETTLE_MS);
}

export async function untilAllRun(cluster: DurableCluster): Promise<void> {
  await until("all sets run", async () => {
    const rows =
      await cluster.sql`select 1 from sets where state <> 'running' and deleted_at is null limit 1`;
    return rows.length === 0;
  });
}

/**
 * Waits until the hosts have reported the usage of all sets. A simulated host may report the usage
 * of a set before the set runs. Until its next report the planner counts the set twice.
 */
export async function untilUsageReported(cluster: DurableCluster): Promise<void> {
  await until("the usage of all sets is reported", async () => {
    const rows = await cluster.sql`select 1 from hosts where unreported_memory_bytes > 0 limit 1`;
    return rows.length === 0;
  });
}

export interface SingleSetSample {
  acceptedMs: number;
  respondedMs: number;
  placedMs: number;
}

/**
 * Creates a service of one set, waits until it runs, and reads the commit times that Postgres
 * recorded.
 * @param secret of the tenant's token; the admin's when absent
 */
export async function placeOneSet(
  cluster: DurableCluster,
  name: string,
  secret?: string,
): Promise<SingleSetSample> {
  const now = epochClock();
  const body = serviceBody(name, 1);
  const sentAtMs = now();
  const { service } = await (secret === undefined
    ? cluster.request<{ service: { id: string } }>("POST", "/v1/services", body)
    : cluster.requestAs<{ service: { id: string } }>(secret, "POST", "/v1/services", body));
  const respondedMs = now() - sentAtMs;
  await until(`${name} runs`, () => isRunning(cluster, service.id), 5);
  const [row] = await cluster.sql<{ accepted: number; placed: number }[]>`
    select extract(epoch from pg_xact_commit_timestamp(events.xmin))::float8 * 1000 as accepted,
      extract(epoch from pg_xact_commit_timestamp(placements.xmin))::float8 * 1000 as placed
    from sets
      join placements on placements.set_id = sets.id
      join events on events.service_id = sets.service_id and events.kind = 'service-created'
    where sets.service_id = ${service.id} limit 1`;
  if (!row) throw new Error(`${name} has no placement`);
  return { respondedMs, acceptedMs: row.accepted - sentAtMs, placedMs: row.placed - sentAtMs };
}

async function isRunning(cluster: DurableCluster, serviceId: string): Promise<boolean> {
  const rows = await cluster.sql`
    select 1 from sets where service_id = ${serviceId} and deleted_at is null and state = 'running'`;
  return rows.length > 0;
}

/** Runs `send`, and measures until so many placements are committed. */
export async function measurePhase(
  cluster: DurableCluster,
  { name, placements, acceptedEvent }: { name: string; placements: number; acceptedEvent: string },
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

export function perSecond({ placements, totalMs }: Phase): number {
  return Math.round((placements * 1000) / totalMs);
}

/**
 * Splits the time as far as it shows from outside: to the durable intent, then to the last booking.
 */
export function describePhase(phase: Phase): string {
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
    `  CPU seconds until the last placement: ${cpu}`,
  ].join("\n");
}
