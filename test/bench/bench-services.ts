import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { newId } from "../../src/lib/ids.ts";
import { baseImage } from "../support/docker/docker.ts";
import type { BerthHost } from "./berth-host.ts";
import { benchTemplate } from "./straight-docker.ts";

/** The most that one wait of the API may take; there are as many as the deadline allows. */
const WAIT_SECONDS = 60;
const SETTLE_DEADLINE_MS = 1_200_000;
const IDLE_SETTLE_MS = 5_000;
/** Twice the longest interval of the agent. */
const IDLE_MS = 120_000;
const DELETION_DEADLINE_MS = 1_200_000;

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
  while (!(await berth.request<{ reached: boolean }>("GET", path)).reached) {
    if (performance.now() - startedAtMs > SETTLE_DEADLINE_MS) {
      throw new Error(`${name} has not settled within ${SETTLE_DEADLINE_MS} ms`);
    }
  }
  const tookMs = performance.now() - startedAtMs;
  return { name, tookMs };
}

export async function deleteService(docker: Docker, berth: BerthHost, name: string): Promise<void> {
  await berth.request("DELETE", `/v1/services/${name}`);
  const filters = { label: [`berth.host=${berth.hostId}`] };
  const startedAtMs = performance.now();
  while ((await docker.listContainers({ all: true, filters })).length > 0) {
    if (performance.now() - startedAtMs > DELETION_DEADLINE_MS) {
      throw new Error(`containers of ${name} are left`);
    }
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
