import Docker from "dockerode";
import { newId } from "../../src/lib/ids.ts";
import { baseImage, ensureDocker } from "../support/docker/docker.ts";
import { patientCommand } from "../support/agent/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type BerthHost, startBerthHost } from "./berth-host.ts";
import { createService, deleteService, measureIdleAgent, median } from "./bench-services.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { readOptions } from "./read-options.ts";
import { runStraight } from "./straight-docker.ts";
import { runSwarmService, withSwarm } from "./swarm-service.ts";

/**
 * The time from the API call that creates a service until Berth reports that all its sets run on
 * real Docker. API, job worker and agent are separate processes, Postgres is durable, and Redis is
 * real.
 *
 * Two peers take turns with Berth on the same daemon. The first creates the same containers
 * directly through the Docker API. The second is a Swarm service with as many containers. Each of
 * its containers has its own network, where half of Berth's join the network of their set.
 */

const ONE_ROUNDS = 11;
const MANY_ROUNDS = 3;
const SWARM_ROUNDS = 2;
const IDLE_SETS = 10;

interface Comparison {
  berthMs: number;
  dockerMs: number;
  /** Berth's median over the median straight through Docker. */
  ratio: number;
  berthAllMs: number[];
  dockerAllMs: number[];
}

/** The properties of Berth's infra containers, for the containers of the peer. */
interface Peer {
  infraImage: string;
  canRunPrivileged: boolean;
}

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { rounds: oneRounds, "many-rounds": manyRounds } = readOptions(options.args, {
    rounds: ONE_ROUNDS,
    "many-rounds": MANY_ROUNDS,
  });
  await ensureDocker();
  const docker = new Docker();
  const berth = await startBerthHost();
  try {
    const peer = await warmUp(docker, berth);
    const one = await compare(docker, berth, { peer, sets: 1, rounds: oneRounds });
    const ten = await compare(docker, berth, { peer, sets: 10, rounds: manyRounds });
    const thirty = await compare(docker, berth, { peer, sets: 30, rounds: manyRounds });
    const volume = await compareVolume(docker, berth, oneRounds);
    const agent = await measureIdleAgent(docker, berth, IDLE_SETS);
    const [tenSwarmMs, thirtySwarmMs] = await measureSwarm(docker);
    return {
      one: { berthP50Ms: one.berthMs, dockerP50Ms: one.dockerMs, ...one },
      ten: { ...ten, swarmMs: tenSwarmMs },
      thirty: { ...thirty, swarmMs: thirtySwarmMs },
      volume,
      agent,
    };
  } finally {
    await berth.stop();
  }
}

/**
 * Starts one set without a measurement, to warm up images, connections and code. Reads the
 * properties of its infra container.
 */
async function warmUp(docker: Docker, berth: BerthHost): Promise<Peer> {
  const service = await createService(berth, 1);
  const filters = { label: [`berth.host=${berth.hostId}`, "berth.container=infra"] };
  const [infra] = await docker.listContainers({ filters });
  if (!infra) throw new Error("no infra container runs");
  const { HostConfig: host } = await docker.getContainer(infra.Id).inspect();
  await deleteService(docker, berth, service.name);
  return { infraImage: infra.Image, canRunPrivileged: host.Privileged === true };
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
    await removeHost(docker, hostId);
  };
  for (let round = 0; round < rounds; round++) {
    // The second one meets a daemon that has just removed the other's containers, so the order
    // alternates.
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

/** The time that a volume adds to the start of a set. Sets with and without a volume take turns. */
async function compareVolume(
  docker: Docker,
  berth: BerthHost,
  rounds: number,
): Promise<{ withMs: number; withoutMs: number; addsMs: number }> {
  const withMs: number[] = [];
  const withoutMs: number[] = [];
  const measure = async (into: number[], changes: Record<string, unknown>) => {
    const service = await createService(berth, 1, changes);
    into.push(service.tookMs);
    await deleteService(docker, berth, service.name);
  };
  const volume = { volume: { size: "64Mi", mountPath: "/data" } };
  for (let round = 0; round < rounds; round++) {
    await measure(withMs, volume);
    await measure(withoutMs, {});
  }
  // The host purges the volumes after the control plane reports the end of their retention.
  const arePurged = async (): Promise<boolean> => {
    const { items } = await berth.request<{ items: unknown[] }>("GET", "/v1/volumes");
    return items.length === 0;
  };
  await waitUntil("the volumes are purged", arePurged, { deadlineMs: 120_000, everyMs: 500 });
  const addsMs = median(withMs) - median(withoutMs);
  process.stdout.write(`a volume (loop, ext4) adds ${addsMs} ms to ${median(withoutMs)} ms\n`);
  return { withMs: median(withMs), withoutMs: median(withoutMs), addsMs };
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
