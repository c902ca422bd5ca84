import type Docker from "dockerode";
import type { Log } from "../../lib/log.ts";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { labels } from "./container-labels.ts";
import { negotiateApi } from "./docker-api.ts";
import { containersAnswer, parseAnswer } from "./docker-answers.ts";

const answerTimeoutMs = 20_000;
/** After the deadline, each container has this long before Docker kills it. */
const lateStopSeconds = 1;

export interface StopAllSetsOptions {
  docker: Docker;
  log: Log;
  /** Bounds the stops with the containers' own stop timeouts. */
  timeoutMs: number;
  /** Bounds the stops of the remaining containers after that. */
  lateTimeoutMs: number;
}

/**
 * Stops all sets of this machine before it shuts down, whatever their host id: in each set the
 * highest index first, and infra last. Each container has its own stop timeout. At the deadline,
 * the remaining containers have a second each, in the same order.
 *
 * Without this, Docker would stop all containers together. Then an application would lose the
 * containers that it depends on, and its network, before its last write. All sets stop
 * concurrently, and the number of sets on a host bounds that. A hung container delays only its own
 * set.
 *
 * Rejects if Docker does not list the containers.
 */
export async function stopAllSets(options: StopAllSetsOptions): Promise<void> {
  const { docker, log, timeoutMs, lateTimeoutMs } = options;
  const startedAtMs = performance.now();
  const deadline = AbortSignal.timeout(timeoutMs);
  await negotiateApi(docker, answerTimeoutMs, deadline);
  const sets = await listRunningSets(docker, deadline);
  const late = await stopSets(options, sets, { seconds: undefined }, deadline);
  if (late.length > 0) {
    log.warn({ setIds: late.map(({ setId }) => setId) }, "sets did not stop in time");
    const lastDeadline = AbortSignal.timeout(lateTimeoutMs);
    await stopSets(options, late, { seconds: lateStopSeconds }, lastDeadline);
  }
  const durationMs = Math.round(performance.now() - startedAtMs);
  log.info({ sets: sets.length, late: late.length, durationMs }, "stopped all sets");
}

interface RunningSet {
  setId: string;
  containers: { dockerId: string; index: number }[];
}

async function listRunningSets(docker: Docker, signal: AbortSignal): Promise<RunningSet[]> {
  const phase = "observe";
  const answer = await callDocker({ phase, timeoutMs: answerTimeoutMs }, signal, (abortSignal) =>
    docker.listContainers({ filters: { label: [labels.host] }, abortSignal }),
  );
  const listed = parseAnswer(containersAnswer, answer, { call: "GET /containers/json", phase });
  const sets = new Map<string, RunningSet>();
  for (const { Id: dockerId, Labels: found } of listed) {
    const setId = found[labels.set] ?? "";
    const key = `${found[labels.host]} ${setId}`;
    const set = sets.get(key) ?? { setId, containers: [] };
    set.containers.push({ dockerId, index: Number(found[labels.index] ?? 0) });
    sets.set(key, set);
  }
  return [...sets.values()];
}

/** Returns the sets that did not stop before the abort, or that Docker did not stop. */
async function stopSets(
  { docker, log }: StopAllSetsOptions,
  sets: readonly RunningSet[],
  { seconds }: { seconds: number | undefined },
  signal: AbortSignal,
): Promise<RunningSet[]> {
  const stopped = await Promise.all(
    sets.map(async ({ setId, containers }) => {
      try {
        const indexes = [...new Set(containers.map(({ index }) => index))].sort((a, b) => b - a);
        for (const index of indexes) {
          const together = containers.filter((container) => container.index === index);
          await Promise.all(
            together.map(({ dockerId }) => stopContainer(docker, dockerId, seconds, signal)),
          );
        }
        return true;
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error, setId }, "cannot stop a set");
        return false;
      }
    }),
  );
  return sets.filter((_set, position) => stopped[position] !== true);
}

/** Uses the container's own stop timeout without `seconds`. The abort is the deadline. */
async function stopContainer(
  docker: Docker,
  dockerId: string,
  seconds: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const stopTimeoutMsMax = 2 ** 31 - 1;
  try {
    await callDocker({ phase: "stop", timeoutMs: stopTimeoutMsMax }, signal, (abortSignal) =>
      docker
        .getContainer(dockerId)
        .stop({ ...(seconds === undefined ? {} : { t: seconds }), abortSignal }),
    );
  } catch (error) {
    const hasEnded = [304, 404].includes(dockerStatus(error) ?? 0);
    if (!hasEnded) throw error;
  }
}
