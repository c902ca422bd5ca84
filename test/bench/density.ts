import Docker from "dockerode";
import { sendSync, createEmptySync } from "../../src/agent/reporting/send-sync.ts";
import { UsageReports } from "../../src/agent/reporting/usage-reports.ts";
import type { ObservedSet } from "../../src/contracts/agent-protocol/observed-set.ts";
import { systemClock } from "../../src/host-adapters/machine/system-clock.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { measureIdleAgent } from "./bench-services.ts";
import { startBerthHost } from "./berth-host.ts";
import { readOptions } from "./read-options.ts";

/**
 * An agent with 300 sets of two containers each, which it probes every two seconds. The containers
 * are simulated, and the agent, its intervals, the API and the database are real. `reportCpuMs` is
 * the CPU time of the largest report: the usage and the state of every set, up to the body of the
 * request. The benchmark `agent-overhead` runs 100 sets on real Docker.
 */

const SETS = 300;
const PROBE_SECONDS = 2;
const REPORTS = 20;
const bytesPerContainer = 10 * 2 ** 20;

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { sets } = readOptions(options.args, { sets: SETS });
  const reportCpuMs = await measureReport(sets);
  process.stdout.write(`one report of ${sets} sets: ${reportCpuMs} ms of CPU\n`);
  const berth = await startBerthHost({ isSimulated: true });
  try {
    const health = { tcp: { port: 80 }, intervalSeconds: PROBE_SECONDS };
    const container = { index: 0, name: "app", image: "simulated:1" };
    const changes = {
      cpu: 0.1,
      memory: "32Mi",
      containers: [{ ...container, options: { cpu: 100, memory: 100, health } }],
    };
    const idle = await measureIdleAgent(new Docker(), berth, sets, { changes });
    const probesPerSecond = sets / PROBE_SECONDS;
    return { ...idle, containers: 2 * sets, probesPerSecond, reportCpuMs };
  } finally {
    await berth.stop();
  }
}

/** CPU time of this process, with all its threads, for one report of all sets. */
async function measureReport(sets: number): Promise<number> {
  const observed = Array.from({ length: sets }, createReport);
  const memory = Object.fromEntries(
    observed.flatMap(({ setId, containers }) => [
      [setId, 2 * bytesPerContainer],
      ...containers.map(({ dockerId }) => [dockerId?.slice(0, 12) ?? "", bytesPerContainer]),
    ]),
  );
  const amounts = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  const usage = new UsageReports({
    machine: {
      measure: async () => ({
        used: amounts,
        allocatable: amounts,
        reclaimableVolumeBytes: 0,
        trashedVolumeBytes: 0,
        volumeReason: null,
      }),
    },
    port: { memoryUsage: async () => memory },
    disk: () => undefined,
    volumeExcessBytes: () => 0,
    hostReason: () => undefined,
    fault: () => undefined,
    clock: systemClock,
    log: silentLog,
    intervalMs: 0,
    onRepeat: () => undefined,
  });
  const { signal } = new AbortController();
  let bodyBytes = 0;
  const send = async () => {
    const body = { ...createEmptySync("bench", 1), observed, usage: await usage.takeIfDue() };
    const api = {
      sync: async (sent: unknown) => {
        bodyBytes = JSON.stringify(sent).length;
        return undefined as never;
      },
    };
    const counts = { omittedParts: 0 };
    const addresses = { take: () => undefined, noteAnswer: () => undefined };
    const capabilities = {
      take: () => ({ version: "bench", capabilities: undefined }),
      noteAnswer: () => undefined,
    };
    await sendSync(
      {
        api,
        log: silentLog,
        counts,
        capabilities,
        addresses,
        prefetches: { take: () => undefined, noteLost: () => undefined },
        onBareAnswer: async () => undefined,
      },
      body,
      signal,
    );
    if (counts.omittedParts > 0 || bodyBytes === 0) throw new Error("the report is incomplete");
  };
  await send();
  const before = process.cpuUsage();
  for (let report = 0; report < REPORTS; report++) await send();
  const { user, system } = process.cpuUsage(before);
  return Math.round((user + system) / 100 / REPORTS) / 10;
}

function createReport(): ObservedSet {
  const dockerId = newId("c").slice(2).padStart(64, "0");
  return {
    setId: newId("set"),
    generation: 1,
    state: "running",
    ready: true,
    reason: null,
    gaveUp: false,
    address: "10.0.0.1",
    sized: true,
    sizeRefused: false,
    containers: [
      {
        name: "app",
        state: "running",
        ready: true,
        dockerId,
        restarts: 0,
        oomKills: 0,
        rootfsUsedBytes: 0,
        exitCode: null,
        startedAt: new Date().toISOString(),
        reason: null,
      },
    ],
  };
}
