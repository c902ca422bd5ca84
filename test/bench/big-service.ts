import { setTimeout as delay } from "node:timers/promises";
import { type DurableCluster, type ProcessRole, startDurableCluster } from "./durable-cluster.ts";
import { createProbeTokens, startAuthProbe } from "./latency-probes.ts";
import { median, percentile } from "./percentile.ts";
import {
  placeOneSet,
  serviceBody,
  until,
  untilHostsReady,
  untilQuiet,
  untilUsageReported,
} from "./placement-phases.ts";
import { readOptions } from "./read-options.ts";
import { startTransactionSampler } from "./transaction-sampler.ts";

/**
 * Resizes one service of 20,000 sets and scales it in, while 5,000 hosts report and another tenant
 * creates services. Prints the p99 of authentication during each operation, and the longest
 * transaction. Then 50,000 sets wait that fit on no host. The benchmark compares the placement time
 * of another tenant's set with the time on the idle cluster.
 */

const HOSTS = 5_000;
const BIG_SETS = 20_000;
const SETS_LEFT = 1_000;
const WAITING_TENANTS = 20;
const WAITING_SETS = 50_000;
const SAMPLES = 50;
const CREATE_INTERVAL_MS = 250;
const PROBE_TOKENS = 8_000;
const AUTH_TARGET_MS = 100;
const TRANSACTION_TARGET_MS = 1_000;
const WAITING_TARGET = 3;
/** More cores than a simulated host has. */
const TOO_MANY_CORES = 128;
const largeQuota = {
  setsMax: 1_000_000,
  cpuMillisMax: 1_000_000_000,
  memoryBytesMax: 2 ** 46,
};

interface Sizes {
  hosts: number;
  sets: number;
  waiting: number;
}

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const {
    "one-api": hasOneApi,
    profile,
    ...sizes
  } = readOptions(options.args, {
    hosts: HOSTS,
    sets: BIG_SETS,
    waiting: WAITING_SETS,
    "one-api": false,
    /** Writes CPU profiles of the API and the job worker into this folder. */
    profile: undefined,
  });
  const cluster = await startDurableCluster({
    hosts: sizes.hosts,
    simulationProcesses: 2,
    hasOneApi,
    profileFolder: profile,
    onProgress: () => undefined,
  });
  try {
    await untilHostsReady(cluster, sizes.hosts);
    return await measure(cluster, sizes);
  } finally {
    await cluster.stop();
  }
}

async function measure(cluster: DurableCluster, sizes: Sizes): Promise<Record<string, unknown>> {
  const other = await createTenant(cluster, "other");
  const unloadedMs = await measurePlacements(cluster, "unloaded", other);
  await cluster.request("POST", "/v1/services", serviceBody("probed", 1));
  await cluster.request("POST", "/v1/services", serviceBody("big", sizes.sets));
  await untilQuiet(cluster);
  await untilUsageReported(cluster);
  const secrets = await createProbeTokens(cluster, PROBE_TOKENS);
  const resize = await measureChange(cluster, { name: "resize", secrets, other }, async () => {
    await cluster.request("POST", "/v1/services/big/resize", { memory: "3Gi" });
    await untilSettled(cluster, "big");
  });
  const left = Math.min(SETS_LEFT, sizes.sets);
  const scaleIn = await measureChange(cluster, { name: "scale-in", secrets, other }, async () => {
    await cluster.request("POST", "/v1/services/big/scale", { replicas: left });
    await untilSettled(cluster, "big");
  });
  await createWaitingSets(cluster, sizes.waiting);
  const waitingMs = await measurePlacements(cluster, "beside", other);
  const result = {
    scaleInAuthP99Ms: scaleIn.authP99Ms,
    resizeAuthP99Ms: resize.authP99Ms,
    longestTransactionMs: Math.max(scaleIn.longestMs, resize.longestMs),
    waitingPlacedRatio: Math.round((waitingMs / unloadedMs) * 100) / 100,
    unloadedP50Ms: unloadedMs,
    waitingP50Ms: waitingMs,
    hostTimeouts: cluster.hostTimeouts(),
  };
  say(
    [
      "",
      `auth p99:  scale-in ${result.scaleInAuthP99Ms} ms, resize ${result.resizeAuthP99Ms} ms (target: under ${AUTH_TARGET_MS})`,
      `longest transaction: ${result.longestTransactionMs} ms (target: at most ${TRANSACTION_TARGET_MS})`,
      `placed beside ${sizes.waiting} waiting sets: ${waitingMs} ms / ${unloadedMs} ms = ${result.waitingPlacedRatio} (target: at most ${WAITING_TARGET})`,
    ].join("\n"),
  );
  return result;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Returns the secret of a token of a new tenant. */
async function createTenant(cluster: DurableCluster, name: string): Promise<string> {
  await cluster.request("POST", "/v1/tenants", { name, quota: largeQuota });
  const { secret } = await cluster.request<{ secret: string }>("POST", "/v1/tokens", {
    name,
    role: "tenant",
    tenant: name,
  });
  return secret;
}

/** Returns the median time from a request to the commit of its set's placement. */
async function measurePlacements(
  cluster: DurableCluster,
  name: string,
  secret: string,
): Promise<number> {
  const placedMs: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    placedMs.push((await placeOneSet(cluster, `${name}-${sample}`, secret)).placedMs);
  }
  return median(placedMs);
}

/** Runs `change` while another tenant creates services, and the probes measure. */
async function measureChange(
  cluster: DurableCluster,
  { name, secrets, other }: { name: string; secrets: string[]; other: string },
  change: () => Promise<void>,
): Promise<{ authP99Ms: number; longestMs: number }> {
  const stopping = new AbortController();
  const creating = createServices(cluster, { prefix: name, secret: other }, stopping.signal);
  const auth = startAuthProbe(cluster, secrets, "probed");
  const transactions = startTransactionSampler(cluster);
  await cluster.apiLoopLagMs();
  const cpuBefore = cluster.cpuSeconds();
  const startedAtMs = performance.now();
  // The probes end even after an error. Otherwise they would fail when the cluster stops, and their
  // errors would hide it.
  const tookMs = await Promise.race([change(), creating])
    .then(() => Math.round(performance.now() - startedAtMs))
    .finally(async () => {
      stopping.abort();
      await Promise.allSettled([auth.stop(), transactions.stop(), creating]);
    });
  const [authMs, longest, { created, refused }] = await Promise.all([
    auth.stop(),
    transactions.stop(),
    creating,
  ]);
  const authP99Ms = percentile(authMs, 99);
  const loopLagMs = await cluster.apiLoopLagMs();
  const cpuAfter = cluster.cpuSeconds();
  const cpu = Object.entries(cpuAfter).map(
    ([role, used]) => `${role} ${(used - cpuBefore[role as ProcessRole]).toFixed(1)}`,
  );
  say(
    `${name}: ${tookMs} ms, ${authMs.length} probes with p99 ${authP99Ms} ms, ${created} services of another tenant (${refused} refused)\n` +
      `  p50 of the probes ${percentile(authMs, 50)} ms; p99 of the lag of the API's event loop ${loopLagMs} ms\n` +
      `  CPU seconds: ${cpu.join(", ")}\n` +
      `  longest transaction ${longest.longestMs} ms:\n    ${longest.parts.join("\n    ")}`,
  );
  return { authP99Ms, longestMs: longest.longestMs };
}

/**
 * Creates a service four times a second until the abort. Returns the number of services and
 * refusals.
 */
async function createServices(
  cluster: DurableCluster,
  { prefix, secret }: { prefix: string; secret: string },
  signal: AbortSignal,
): Promise<{ created: number; refused: number }> {
  const count = { created: 0, refused: 0 };
  while (!signal.aborted) {
    const body = serviceBody(`${prefix}-${count.created}`, 1);
    try {
      await cluster.requestAs(secret, "POST", "/v1/services", body);
      count.created++;
    } catch (error) {
      if (!(error instanceof Error && error.message.includes(" answered 503"))) throw error;
      count.refused++;
    }
    await delay(CREATE_INTERVAL_MS);
  }
  return count;
}

/** Waits until every set of the service has its size and its state, and none besides is left. */
async function untilSettled(cluster: DurableCluster, name: string): Promise<void> {
  const path = `/v1/services/${name}/wait?for=settled&timeoutSeconds=10`;
  await until(`${name} is settled`, async () => {
    return (await cluster.request<{ reached: boolean }>("GET", path)).reached;
  });
}

async function createWaitingSets(cluster: DurableCluster, sets: number): Promise<void> {
  const replicas = Math.ceil(sets / WAITING_TENANTS);
  for (let tenant = 0; tenant < WAITING_TENANTS; tenant++) {
    const secret = await createTenant(cluster, `waiting-${tenant}`);
    const body = serviceBody("too-large", replicas, { cpu: TOO_MANY_CORES });
    await cluster.requestAs(secret, "POST", "/v1/services", body);
  }
  await until(
    "every waiting set has been planned",
    async () => {
      const rows = await cluster.sql`
      select 1 from sets where host_id is null and deleted_at is null and attempts = 0 limit 1`;
      return rows.length === 0;
    },
    500,
  );
}
