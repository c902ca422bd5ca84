import Docker from "dockerode";
import { ensureDocker } from "../support/docker/docker.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { createLinuxMachine } from "../../src/host-adapters/machine/linux-machine.ts";
import { systemClock } from "../../src/host-adapters/machine/system-clock.ts";
import { UsageReports } from "../../src/agent/reporting/usage-reports.ts";
import { silentLog } from "../../src/lib/log.ts";
import { measureIdleAgent } from "./bench-services.ts";
import { startBerthHost } from "./berth-host.ts";
import { readOptions } from "./read-options.ts";

/**
 * Measures the cost of an agent while 100 sets run and nothing changes. The agent sends usage
 * reports, resyncs, and probes the daemon and its disk. `reportCpuMs` is the CPU time of one usage
 * report alone, from the files of the kernel to the body of the request.
 */

const SETS = 100;
/** So that they are placed on a small machine. */
const small = { cpu: 0.1, memory: "32Mi" };
const REPORTS = 20;

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { sets } = readOptions(options.args, { sets: SETS });
  await ensureDocker();
  const berth = await startBerthHost();
  try {
    const docker = new Docker();
    let reportCpuMs = 0;
    const idle = await measureIdleAgent(docker, berth, sets, {
      changes: small,
      meanwhile: async () => {
        reportCpuMs = await measureReport(docker, berth.hostId);
      },
    });
    process.stdout.write(`one usage report: ${reportCpuMs} ms of CPU\n`);
    return { ...idle, reportCpuMs };
  } finally {
    await berth.stop();
  }
}

/** CPU time of this process, with all its threads, for one report. */
async function measureReport(docker: Docker, hostId: string): Promise<number> {
  const reservePercent = { cpu: 5, memory: 5, rootfs: 5 };
  const reports = new UsageReports({
    machine: createLinuxMachine({ dockerRoot: () => "/", reservePercent }),
    port: composeSetEngine({ docker, hostId, log: silentLog }),
    disk: () => undefined,
    volumeExcessBytes: () => 0,
    hostReason: () => undefined,
    fault: () => undefined,
    clock: systemClock,
    log: silentLog,
    intervalMs: 0,
    onRepeat: () => undefined,
  });
  const report = async () => JSON.stringify(await reports.takeIfDue());
  await report(); // what is found out once
  const before = process.cpuUsage();
  for (let count = 0; count < REPORTS; count++) await report();
  const { user, system } = process.cpuUsage(before);
  return Math.round((user + system) / 100 / REPORTS) / 10;
}
