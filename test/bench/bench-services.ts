import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { newId } from "../../src/lib/ids.ts";
import { baseImage } from "../support/docker/docker.ts";
import type { BerthHost } from "./berth-host.ts";
import { benchTemplate } from "./straight-docker.ts";

/** The most that one wait of the API may take. */
const WAIT_SECONDS = 60;
/** A start or a deletion fails only after this time without progress. */
const STALL_MS = 600_000;
const IDLE_SETTLE_MS = 5_000;
/** Twice the longest interval of the agent. */
const IDLE_MS = 120_000;

/**
 * Creates a service, and gives the milliseconds from sending the request to the answer of the wait
 * for "settled": all sets run and are ready.
 */
export async function createService(
  berth: BerthHost,
  replicas: number,
  changes: Record<string, unknown> = {},
): Promise<{ name: string; tookMs: number }> {
  const name = `bench-${newId("b").slice(-12)}`;
  const startedAtMs = performance.now();
  await berth.request("POST", "/v1/services", {
    name,
    replicas,
    template: { ...benchTemplate(baseImage), ...changes },
  });
  const path = `/v1/services/${name}/wait?for=settled&timeoutSeconds=${WAIT_SECONDS}`;
  let readyMost = 0;
  let progressAtMs = startedAtMs;
  while (!(await berth.request<{ reached: boolean }>("GET", path)).reached) {
    const ready = await countReady(berth, name);
    if (ready > readyMost) progressAtMs = performance.now();
    readyMost = Math.max(readyMost, ready);
    if (performance.now() - progressAtMs > STALL_MS)
      throw new Error(
        `${name} has ${ready} of ${replicas} sets ready, and no more for ${STALL_MS} ms`,
      );
  }
  const tookMs = performance.now() - startedAtMs;
  return { name, tookMs };
}

async function countReady(berth: BerthHost, name: string): Promise<number> {
  const { counts } = await berth.request<{ counts: { ready: number } }>(
    "GET",
    `/v1/services/${name}`,
  );
  return counts.ready;
}

export async function deleteService(docker: Docker, berth: BerthHost, name: string): Promise<void> {
  await berth.request("DELETE", `/v1/services/${name}`);
  const filters = { label: [`berth.host=${berth.hostId}`] };
  const count = async () => (await docker.listContainers({ all: true, filters })).length;
  let leftLeast = Infinity;
  let progressAtMs = performance.now();
  for (let left = await count(); left > 0; left = await count()) {
    if (left < leftLeast) progressAtMs = performance.now();
    leftLeast = Math.min(leftLeast, left);
    if (performance.now() - progressAtMs > STALL_MS)
      throw new Error(`${left} containers of ${name} are left, and no fewer for ${STALL_MS} ms`);
    await delay(50);
  }
}

/** Measures the agent while its sets run and nothing changes. */
export async function measureIdleAgent(
  docker: Docker,
  berth: BerthHost,
  sets: number,
  {
    changes,
    meanwhile,
  }: { changes?: Record<string, unknown>; meanwhile?: () => Promise<void> } = {},
): Promise<{ sets: number; cpuPercent: number; rssMb: number }> {
  const service = await createService(berth, sets, changes);
  await delay(IDLE_SETTLE_MS);
  const before = berth.agentUsage();
  await delay(IDLE_MS);
  const { cpuSeconds, rssMb } = berth.agentUsage();
  await meanwhile?.();
  await deleteService(docker, berth, service.name);
  const cpuPercent = Math.round(((cpuSeconds - before.cpuSeconds) / IDLE_MS) * 1e7) / 100;
  process.stdout.write(`agent with ${sets} idle sets: ${cpuPercent} % of a core, ${rssMb} MB\n`);
  return { sets, cpuPercent, rssMb };
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
  return Math.round(value ?? 0);
}
