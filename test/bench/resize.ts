import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import { createFsCgroups } from "../../src/host-adapters/cgroups/fs-cgroups.ts";
import { type CgroupPlace, readLimits } from "../../src/host-adapters/cgroups/read-cgroup.ts";
import type { Limits } from "../../src/agent/model/local-set.ts";
import { dockerLimits } from "../../src/host-adapters/docker/container-specs.ts";
import { containerLimits, setLimits } from "../../src/agent/model/set-limits.ts";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import { baseImage, ensureDocker } from "../support/docker/docker.ts";
import { type BerthHost, startBerthHost } from "./berth-host.ts";
import { readOptions } from "./read-options.ts";

/**
 * The time from the API call that resizes a service until the kernel shows the new limits of all
 * its sets and containers. Meanwhile every set answers HTTP requests without a pause. API, job
 * worker and agent are separate processes.
 *
 * The peer takes turns with Berth. It makes the same change of the same containers by Docker's
 * update, for all of them concurrently. The agent would undo that, so it is suspended meanwhile.
 */

const SETS = 4;
const ROUNDS = 40;
const POLL_MS = 2;
const PAUSE_MS = 100;
/** In this time the agent handles the events of Docker's updates. */
const DOCKER_PAUSE_MS = 500;
const APPLY_DEADLINE_MS = 10_000;
const REQUEST_TIMEOUT_MS = 5_000;
const SERVICE = "bench-resize";
const cgroupRoot = "/sys/fs/cgroup";
const version = existsSync(`${cgroupRoot}/cgroup.controllers`) ? 2 : 1;
const port = 8_080;

/** The sizes that the rounds go through. */
const sizes = [
  { cpu: 1, mebibytes: 128 },
  { cpu: 0.5, mebibytes: 64 },
  { cpu: 2, mebibytes: 64 },
  { cpu: 0.25, mebibytes: 256 },
] as const;
const widest = { cpu: 2, mebibytes: 256 };

interface Size {
  cpu: number;
  mebibytes: number;
}

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { sets, rounds } = readOptions(options.args, { sets: SETS, rounds: ROUNDS });
  await ensureDocker();
  const docker = new Docker();
  const berth = await startBerthHost();
  try {
    const running = await startSets(berth, sets);
    const places = await findCgroups(docker, berth, running);
    const load = startLoad(running.map(({ address }) => address ?? ""));
    const startedBefore = await startTimes(docker, berth);
    const appliedMs: number[] = [];
    const answeredMs: number[] = [];
    const dockerMs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const change = { before: sizeOf(round), after: sizeOf(round + 1) };
      const measureDocker = async (current: Size) => {
        dockerMs.push(await updateOnce(docker, berth, places, { ...change, current }));
        await delay(DOCKER_PAUSE_MS);
      };
      // The second one meets a daemon that has just done the change, so the order alternates.
      if (round % 2 === 0) await measureDocker(change.before);
      const took = await resizeOnce(berth, places, change.after);
      appliedMs.push(took.appliedMs);
      answeredMs.push(took.answeredMs);
      await delay(PAUSE_MS);
      if (round % 2 === 1) await measureDocker(change.after);
    }
    const { requests, failed } = await load.stop();
    const startedAfter = await startTimes(docker, berth);
    const isUndisturbed = JSON.stringify(startedBefore) === JSON.stringify(startedAfter);
    const result = {
      sets,
      rounds,
      applyP50Ms: percentile(appliedMs, 50),
      applyP99Ms: percentile(appliedMs, 99),
      dockerUpdateP50Ms: percentile(dockerMs, 50),
      dockerUpdateP99Ms: percentile(dockerMs, 99),
      applyRatio: Math.round((percentile(appliedMs, 50) / percentile(dockerMs, 50)) * 100) / 100,
      answerP50Ms: percentile(answeredMs, 50),
      requests,
      failedRequests: failed,
      restarts: isUndisturbed ? 0 : 1,
    };
    process.stdout.write(
      `${sets} sets, ${rounds} times: new limits in the kernel after ${result.applyP50Ms} ms (p99 ${result.applyP99Ms}); docker update ${result.dockerUpdateP50Ms} ms, ratio ${result.applyRatio}; ${requests} requests meanwhile, ${failed} failed\n`,
    );
    await removeSets(docker, berth);
    return result;
  } finally {
    await berth.stop();
  }
}

async function startSets(berth: BerthHost, replicas: number): Promise<BerthSet[]> {
  const serve = `mkdir -p /www && echo ok > /www/index.html && exec httpd -f -p ${port} -h /www`;
  const { cpu, mebibytes } = sizes[0];
  await berth.request("POST", "/v1/services", {
    name: SERVICE,
    replicas,
    template: {
      cpu,
      memory: `${mebibytes}Mi`,
      rootfs: "64Mi",
      containers: [
        {
          index: 0,
          name: "web",
          image: baseImage,
          options: {
            cpu: 80,
            memory: 80,
            command: ["/bin/sh", "-c", serve],
            health: { http: { port } },
          },
        },
      ],
    },
  });
  await berth.request("GET", `/v1/services/${SERVICE}/wait?for=settled&timeoutSeconds=60`);
  const { items } = await berth.request<{ items: BerthSet[] }>(
    "GET",
    `/v1/sets?service=${SERVICE}`,
  );
  return items;
}

interface SetCgroups {
  setId: string;
  dockerId: string;
  set: CgroupPlace;
  container: CgroupPlace;
}

async function findCgroups(
  docker: Docker,
  berth: BerthHost,
  sets: readonly BerthSet[],
): Promise<SetCgroups[]> {
  return Promise.all(
    sets.map(async ({ id }) => {
      const { Id } = await docker.getContainer(`berth-${id}-web`).inspect();
      const path = `berth/${berth.hostId}/${id}`;
      const place = { root: cgroupRoot, version } as const;
      return {
        setId: id,
        dockerId: Id,
        set: { ...place, path },
        container: { ...place, path: `${path}/${Id}` },
      };
    }),
  );
}

async function resizeOnce(
  berth: BerthHost,
  places: readonly SetCgroups[],
  { cpu, mebibytes }: Size,
): Promise<{ appliedMs: number; answeredMs: number }> {
  const wanted = limitsOf({ cpu, mebibytes });
  const startedAtMs = performance.now();
  let answeredMs = 0;
  const body = { cpu, memory: `${mebibytes}Mi` };
  const answered = berth.request("POST", `/v1/services/${SERVICE}/resize`, body).then(() => {
    answeredMs = performance.now() - startedAtMs;
  });
  await untilApplied(() =>
    places.every(({ set, container }) => has(set, wanted.set) && has(container, wanted.container)),
  );
  const appliedMs = performance.now() - startedAtMs;
  await answered;
  return { appliedMs, answeredMs };
}

/**
 * The same change of the containers without Berth. Afterwards they have their current size again.
 * The limits of the sets are wide meanwhile, because Docker does not change them.
 */
async function updateOnce(
  docker: Docker,
  berth: BerthHost,
  places: readonly SetCgroups[],
  { before, after, current }: { before: Size; after: Size; current: Size },
): Promise<number> {
  const cgroups = createFsCgroups({
    hostId: berth.hostId,
    driver: "cgroupfs",
    root: cgroupRoot,
    version,
  });
  const { signal } = new AbortController();
  const limitSets = (size: Size) =>
    Promise.all(places.map(({ setId }) => cgroups.ensure(setId, limitsOf(size).set, signal)));
  const update = async (size: Size) => {
    const limits = limitsOf(size).container;
    await Promise.all(
      places.map(({ dockerId }) => docker.getContainer(dockerId).update(dockerLimits(limits))),
    );
    await untilApplied(() => places.every(({ container }) => has(container, limits)));
  };
  berth.suspendAgent();
  try {
    await limitSets(widest);
    if (current !== before) await update(before);
    const startedAtMs = performance.now();
    await update(after);
    const tookMs = performance.now() - startedAtMs;
    if (current !== after) await update(current);
    await limitSets(current);
    return tookMs;
  } finally {
    berth.resumeAgent();
  }
}

async function untilApplied(isApplied: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + APPLY_DEADLINE_MS;
  while (!isApplied()) {
    if (performance.now() > deadlineMs)
      throw new Error(`the limits were not applied within ${APPLY_DEADLINE_MS} ms`);
    await delay(POLL_MS);
  }
}

function sizeOf(round: number): Size {
  return sizes[round % sizes.length] ?? sizes[0];
}

function limitsOf({ cpu, mebibytes }: Size) {
  const template = { cpuMillis: cpu * 1_000, memoryBytes: mebibytes * 2 ** 20 };
  return {
    set: setLimits(template),
    container: containerLimits(template, { cpuPercent: 80, memoryPercent: 80 }),
  };
}

function has(place: CgroupPlace, wanted: Limits): boolean {
  const seen = readLimits(place);
  const page = 4_096;
  return (
    seen?.cpuQuotaUs === wanted.cpuQuotaUs && Math.abs(seen.memoryBytes - wanted.memoryBytes) < page
  );
}

/** One client for each set, which asks as soon as it was answered. */
function startLoad(addresses: readonly string[]) {
  const stopping = new AbortController();
  let requests = 0;
  let failed = 0;
  const clients = addresses.map(async (address) => {
    while (!stopping.signal.aborted) {
      requests++;
      const isAnswered = await fetch(`http://${address}:${port}/`, {
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      }).then(
        async (response) => (await response.text()).trim() === "ok",
        () => false,
      );
      if (!isAnswered) failed++;
      await delay(2);
    }
  });
  return {
    stop: async () => {
      stopping.abort();
      await Promise.all(clients);
      return { requests, failed };
    },
  };
}

async function startTimes(docker: Docker, { hostId }: BerthHost): Promise<string[]> {
  const filters = { label: [`berth.host=${hostId}`] };
  const containers = await docker.listContainers({ all: true, filters });
  const states = await Promise.all(
    containers.map(async ({ Id }) => (await docker.getContainer(Id).inspect()).State.StartedAt),
  );
  return states.sort();
}

async function removeSets(docker: Docker, berth: BerthHost): Promise<void> {
  await berth.request("DELETE", `/v1/services/${SERVICE}`);
  const filters = { label: [`berth.host=${berth.hostId}`] };
  const deadline = performance.now() + 60_000;
  while ((await docker.listContainers({ all: true, filters })).length > 0) {
    if (performance.now() > deadline) throw new Error("containers are left");
    await delay(50);
  }
}

function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
  return Math.round((value ?? 0) * 10) / 10;
}
