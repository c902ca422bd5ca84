import type { Command } from "commander";
import { formatDuration } from "../output/format-amounts.ts";
import type { Cli } from "../cli-context.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { printDocument } from "../output/print-items.ts";

const HOSTS_MAX = 100_000;
const PROCESSES_MAX = 64;

/** A line that a process of simulated hosts writes. */
type ProgressLine = { enrolled: number } | { ready: true; hosts: number };

interface HostsOptions {
  hosts: string;
  processes: string;
  zones: string;
  racks: string;
  cores: string;
  memory: string;
  prefix: string;
}

export function addBenchCommand(program: Command, cli: Cli): void {
  program
    .command("bench")
    .description("generate load for benchmarks; not for production")
    .command("hosts")
    .summary("run simulated hosts against the API")
    .description(
      "Runs simulated hosts until Ctrl-C: the real agent and protocol, without containers. Delete them afterwards with `berth delete host`.",
    )
    .option("--hosts <count>", "number of hosts", "1000")
    .option("--processes <count>", "number of processes that run them", "2")
    .option("--zones <count>", "number of zones", "3")
    .option("--racks <count>", "number of racks in each zone", "10")
    .option("--cores <count>", "CPU cores of each host", "64")
    .option("--memory <size>", "memory of each host", "256Gi")
    .option("--prefix <name>", "prefix of the host names", "sim")
    .action(async (options: HostsOptions) => await runHosts(cli, options));
}

async function runHosts(cli: Cli, options: HostsOptions): Promise<void> {
  const hosts = parseCount("--hosts", options.hosts, HOSTS_MAX);
  const processes = Math.min(hosts, parseCount("--processes", options.processes, PROCESSES_MAX));
  const { apiUrl, token } = await cli.target();
  if (token === undefined)
    throw usageError("Simulated hosts need an admin token for their enrollment.");
  const beganAt = cli.now;
  const enrolled = Array.from({ length: processes }, () => 0);
  let readyCount = 0;
  const children = enrolled.map((_, index) => {
    const first = Math.floor((hosts * index) / processes);
    const after = Math.floor((hosts * (index + 1)) / processes);
    return cli.options.startProcess("simulated-hosts", simulationArgs(options, first, after), {
      env: { BERTH_API_URL: apiUrl, BERTH_TOKEN: token },
      onLine: (line) => {
        const progress = parseProgress(line);
        if (!progress) {
          cli.terminal.note(line);
          return;
        }
        enrolled[index] = "ready" in progress ? progress.hosts : progress.enrolled;
        if ("ready" in progress) readyCount++;
        const sum = enrolled.reduce((total, count) => total + count, 0);
        cli.terminal.live(`${sum}/${hosts} simulated hosts enrolled`);
        if (readyCount === processes && "ready" in progress) {
          const enrolledInMs = cli.now - beganAt;
          if (cli.isForPrograms) printDocument(cli, { hosts: sum, processes, enrolledInMs });
          else
            cli.terminal.out(
              `${sum} simulated hosts run. They enrolled in ${formatDuration(enrolledInMs)}. Ctrl-C stops them.`,
            );
        }
      },
    });
  });
  cli.options.signal.addEventListener("abort", () => children.forEach((child) => child.stop()), {
    once: true,
  });
  const exitCode = await Promise.race(children.map((child) => child.ended));
  for (const child of children) child.stop();
  await Promise.all(children.map((child) => child.ended));
  if (exitCode !== 0 && !cli.options.signal.aborted)
    throw new CliError(`A process of simulated hosts exited with code ${exitCode}.`, {
      exitCode: exitCodes.failed,
    });
}

function simulationArgs(options: HostsOptions, first: number, after: number): string[] {
  const { zones, racks, cores, memory, prefix } = options;
  return Object.entries({
    "--first": String(first),
    "--hosts": String(after - first),
    "--zones": zones,
    "--racks": racks,
    "--cores": cores,
    "--memory": memory,
    "--prefix": prefix,
  }).flat();
}

function parseCount(option: string, text: string, max: number): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > max)
    throw usageError(`${option} ${text} is not a number from 1 to ${max}.`);
  return count;
}

function parseProgress(line: string): ProgressLine | undefined {
  try {
    const progress = JSON.parse(line) as ProgressLine;
    return "enrolled" in progress || "ready" in progress ? progress : undefined;
  } catch {
    return undefined; // a line of the log
  }
}
