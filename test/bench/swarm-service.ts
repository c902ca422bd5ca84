import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";

const pollMs = 10;
const deadlineMs = 120_000;

/**
 * The other peer: Docker Swarm on the same daemon. Runs `measure` in a swarm of one node. Leaves
 * the swarm afterwards and removes its bridge.
 */
export async function withSwarm<T>(docker: Docker, measure: () => Promise<T>): Promise<T> {
  await docker.swarmInit({ AdvertiseAddr: "127.0.0.1", ListenAddr: "127.0.0.1:2377" });
  try {
    return await measure();
  } finally {
    await docker.swarmLeave({ force: true });
    await docker
      .getNetwork("docker_gwbridge")
      .remove()
      .catch(() => undefined); // a swarm that never ran a task has none
  }
}

/** Milliseconds from the request for a service of `replicas` containers until all its tasks run. */
export async function runSwarmService(
  docker: Docker,
  { replicas, image, command }: { replicas: number; image: string; command: string[] },
): Promise<number> {
  const startedAtMs = performance.now();
  const service = await docker.createService({
    Name: `bench-${replicas}`,
    TaskTemplate: {
      ContainerSpec: { Image: image, Command: command },
      RestartPolicy: { Condition: "none" },
    },
    Mode: { Replicated: { Replicas: replicas } },
  });
  try {
    for (;;) {
      const tasks = await docker.listTasks({ filters: { service: [service.id] } });
      const running = tasks.filter((task: { Status?: { State?: string } }) => {
        return task.Status?.State === "running";
      });
      if (running.length === replicas) return performance.now() - startedAtMs;
      if (performance.now() - startedAtMs > deadlineMs) {
        throw new Error(`${running.length} of ${replicas} swarm tasks run after ${deadlineMs} ms`);
      }
      await delay(pollMs);
    }
  } finally {
    await docker.getService(service.id).remove();
    await untilRemoved(docker, service.id);
  }
}

async function untilRemoved(docker: Docker, serviceId: string): Promise<void> {
  const filters = { label: [`com.docker.swarm.service.id=${serviceId}`] };
  const startedAtMs = performance.now();
  while ((await docker.listContainers({ all: true, filters })).length > 0) {
    if (performance.now() - startedAtMs > deadlineMs) throw new Error("swarm tasks do not go");
    await delay(100);
  }
}
