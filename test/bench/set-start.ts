import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import Docker from "dockerode";
import { newId } from "../../src/lib/ids.ts";
import { baseImage, ensureDocker } from "../support/docker.ts";
import { patientCommand } from "../support/local-set.ts";
import { type BerthHost, startBerthHost } from "./berth-host.ts";
import { benchTemplate, removeByHost, runStraight } from "./straight-docker.ts";
import { runSwarmService, withSwarm } from "./swarm-service.ts";

/**
 * From the API call that creates a service until Berth says that all its sets run, on real Docker: API, job worker and
 * agent as processes of their own, Postgres durable, Redis real. Beside it, in turns on the same daemon, the same
 * containers straight through the Docker API, and a Swarm service of as many containers (each with a network of its
 * own, where every second one of Berth's joins its set's).
 */

const ONE_ROUNDS = 11;
const MANY_ROUNDS = 3;
const SWARM_ROUNDS = 2;
const WAIT_SECONDS = 60;
const IDLE_SETS = 10;
const IDLE_SETTLE_MS = 5_000;
/** Two of the longest of the agent's intervals. */
const IDLE_MS = 120_000;
const GONE_DEADLINE_MS = 180_000;

interface Comparison {
  berthMs: number;
  dockerMs: number;
  /** Berth's median over the median straight through Docker. */
  ratio: number;
  berthAllMs: number[];
  dockerAllMs: number[];
}

/** What Berth's own infra containers are, so that the peer's can be the same. */
interface Peer {
  infraImage: string;
  canPrivilege: boolean;
}

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { values } = parseArgs({
    args: [...(options.args ?? [])],
    strict: false,
    options: { rounds: { type: "string" }, "many-rounds": { type: "string" } },
  });
  const oneRounds = numberOf(values["rounds"], ONE_ROUNDS);
  const manyRounds = numberOf(values["many-rounds"], MANY_ROUNDS);
  await ensureDocker();
  const docker = new Docker();
  const berth = await startBerthHost();
  try {
    const peer = await warmUp(docker, berth);
    const one = await compare(docker, berth, { peer, sets: 1, rounds: oneRounds });
    const ten = await compare(docker, berth, { peer, sets: 10, rounds: manyRounds });
    const thirty = await compare(docker, berth, { peer, sets: 30, rounds: manyRounds });
    const agent = await measureIdleAgent(docker, berth);
    const [tenSwarmMs, thirtySwarmMs] = await measureSwarm(docker);
    return {
      one: { berthP50Ms: one.berthMs, dockerP50Ms: one.dockerMs, ...one },
      ten: { ...ten, swarmMs: tenSwarmMs },
      thirty: { ...thirty, swarmMs: thirtySwarmMs },
      agent,
    };
  } finally {
    await berth.stop();
  }
}

/** One set, not measured: images, connections and code are warm afterwards, and its infra container is looked at. */
async function warmUp(docker: Docker, berth: BerthHost): Promise<Peer> {
  const service = await createService(berth, 1);
  const filters = { label: [`berth.host=${berth.hostId}`, "berth.container=infra"] };
  const [infra] = await docker.listContainers({ filters });
  if (!infra) throw new Error("no infra container runs");
  const { HostConfig: host } = await docker.getContainer(infra.Id).inspect();
  await deleteService(docker, berth, service.name);
  return { infraImage: infra.Image, canPrivilege: host.Privileged === true };
}

/** What the agent uses while its sets run and nothing changes. */
async function measureIdleAgent(
  docker: Docker,
  berth: BerthHost,
): Promise<{ sets: number; cpuPercent: number; rssMb: number }> {
  const service = await createService(berth, IDLE_SETS);
  await delay(IDLE_SETTLE_MS);
  const before = berth.agentUse();
  await delay(IDLE_MS);
  const { cpuSeconds, rssMb } = berth.agentUse();
  await deleteService(docker, berth, service.name);
  const cpuPercent = Math.round(((cpuSeconds - before.cpuSeconds) / IDLE_MS) * 1e7) / 100;
  process.stdout.write(
    `agent with ${IDLE_SETS} idle sets: ${cpuPercent} % of a core, ${rssMb} MB\n`,
  );
  return { sets: IDLE_SETS, cpuPercent, rssMb };
}

async function compare(
  docker: Docker,
  berth: BerthHost,
  { peer, sets, rounds }: { peer: Peer; sets: number; rounds: number },
): Promise<Comparison> {
  const berthAllMs: number[] = [];
  const dockerAllMs: number[] = [];
  const measureBerth = async () => {
    const service = await createService(berth, sets);
    berthAllMs.push(service.tookMs);
    await deleteService(docker, berth, service.name);
  };
  const measureDocker = async () => {
    const hostId = newId("host");
    dockerAllMs.push(await runStraight(docker, { ...peer, sets, hostId, image: baseImage }));
    await removeByHost(docker, hostId);
  };
  for (let round = 0; round < rounds; round++) {
    // Whoever goes second meets a daemon that has just removed the other's containers: they take turns at that too.
    const turns = [measureBerth, measureDocker];
    for (const measure of round % 2 === 0 ? turns : turns.toReversed()) await measure();
  }
  const berthMs = median(berthAllMs);
  const dockerMs = median(dockerAllMs);
  const ratio = Math.round((berthMs / dockerMs) * 1_000) / 1_000;
  process.stdout.write(
    `${sets} at once: Berth ${berthMs} ms, straight through Docker ${dockerMs} ms, ratio ${ratio}\n`,
  );
  return {
    berthMs,
    dockerMs,
    ratio,
    berthAllMs: berthAllMs.map(Math.round),
    dockerAllMs: dockerAllMs.map(Math.round),
  };
}

/** Milliseconds from sending the request until the wait for "settled" (all sets run and are ready) is answered. */
async function createService(
  berth: BerthHost,
  replicas: number,
): Promise<{ name: string; tookMs: number }> {
  const name = `bench-${newId("b").slice(-12)}`;
  const startedAtMs = performance.now();
  await berth.request("POST", "/v1/services", {
    name,
    replicas,
    template: benchTemplate(baseImage),
  });
  const { reached } = await berth.request<{ reached: boolean }>(
    "GET",
    `/v1/services/${name}/wait?for=settled&timeoutSeconds=${WAIT_SECONDS}`,
  );
  const tookMs = performance.now() - startedAtMs;
  if (!reached) throw new Error(`${name} has not settled within ${WAIT_SECONDS} s`);
  return { name, tookMs };
}

async function deleteService(docker: Docker, berth: BerthHost, name: string): Promise<void> {
  await berth.request("DELETE", `/v1/services/${name}`);
  const filters = { label: [`berth.host=${berth.hostId}`] };
  const startedAtMs = performance.now();
  while ((await docker.listContainers({ all: true, filters })).length > 0) {
    if (performance.now() - startedAtMs > GONE_DEADLINE_MS) {
      throw new Error(`containers of ${name} are left`);
    }
    await delay(50);
  }
}

/** Medians for 10 and 30 sets: Swarm services of 20 and 60 containers. */
async function measureSwarm(docker: Docker): Promise<[number, number]> {
  return withSwarm(docker, async () => {
    const medianOf = async (replicas: number) => {
      const allMs: number[] = [];
      for (let round = 0; round < SWARM_ROUNDS; round++) {
        allMs.push(
          await runSwarmService(docker, { replicas, image: baseImage, command: patientCommand }),
        );
      }
      process.stdout.write(`Swarm, ${replicas} containers: ${median(allMs)} ms\n`);
      return median(allMs);
    };
    await runSwarmService(docker, { replicas: 1, image: baseImage, command: patientCommand });
    return [await medianOf(20), await medianOf(60)];
  });
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0);
}

function numberOf(text: unknown, otherwise: number): number {
  const value = Number(text);
  return Number.isInteger(value) && value > 0 ? value : otherwise;
}
