import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { seededRandom } from "../support/seeded-random.ts";

/** Where the traces lie when they are there; they are not part of the project. */
const dataFolder = fileURLToPath(new URL("../../../shared/data/", import.meta.url));

export interface FleetTrace {
  name: string;
  /** Amounts of each host. */
  hosts: number[][];
  /** The requests, from which the benchmark draws. */
  instances: number[][];
}

/**
 * CPU millicores, memory MiB and disk GiB of instances in their order of arrival, and of one host.
 */
export interface ArrivalTrace {
  name: string;
  hostCapacity: number[];
  instances: number[][];
}

const ARRIVALS = 4_000;

/**
 * The first 4,000 instances that arrive within the trace. A host has 208 cores, 1 TiB of memory and
 * 2.5 TiB of disk.
 */
export function readDlrm(): ArrivalTrace {
  const hostCapacity = [208_000, 1_024, 2_560];
  const file = `${dataFolder}dlrm/disaggregated_DLRM_trace.csv`;
  if (!existsSync(file)) return { name: "generated", hostCapacity, instances: generateArrivals() };
  const rows = readCsv(file)
    .filter((row) => row["creation_time"] !== "")
    .map((row, position) => ({ row, position, at: Number(row["creation_time"]) }))
    .sort((a, b) => a.at - b.at || a.position - b.position)
    .slice(0, ARRIVALS);
  return {
    name: "dlrm",
    hostCapacity,
    instances: rows.map(({ row }) => [
      Math.round(numberOf(row, "cpu_request") * 1000),
      Math.ceil(numberOf(row, "memory_request")),
      Math.ceil(numberOf(row, "disk_request")),
    ]),
  };
}

/** The openb fleet and its pods without GPU, or files of the same columns. */
export function readOpenb(files: {
  nodes: string | undefined;
  pods: string | undefined;
}): FleetTrace {
  const nodes = files.nodes ?? `${dataFolder}openb/openb_node_list_all_node.csv`;
  const pods = files.pods ?? `${dataFolder}openb/openb_pod_list_default.csv`;
  if (!existsSync(nodes) || !existsSync(pods)) {
    if (files.nodes ?? files.pods)
      throw new Error(`no such file: ${existsSync(nodes) ? pods : nodes}`);
    return generateFleet();
  }
  return {
    name: files.nodes ? "given" : "openb",
    hosts: readCsv(nodes).map((row) => [numberOf(row, "cpu_milli"), numberOf(row, "memory_mib")]),
    instances: readCsv(pods)
      .filter((row) => Number(row["num_gpu"] ?? 0) === 0)
      .map((row) => [numberOf(row, "cpu_milli"), numberOf(row, "memory_mib")])
      .filter(([cpu]) => (cpu ?? 0) > 0),
  };
}

function readCsv(file: string): Record<string, string>[] {
  const [head = "", ...lines] = readFileSync(file, "utf8").trim().split(/\r?\n/);
  const columns = head.split(",");
  return lines.map((line) => {
    const values = line.split(",");
    return Object.fromEntries(columns.map((column, i) => [column, values[i] ?? ""]));
  });
}

function numberOf(row: Record<string, string>, column: string): number {
  const value = Number(row[column]);
  if (row[column] === undefined || !Number.isFinite(value)) {
    throw new TypeError(`column ${column} holds "${row[column]}": expected a number`);
  }
  return value;
}

/** Sizes of a few kinds with a long tail, as real clusters have them. */
function generateArrivals(): number[][] {
  const random = seededRandom(7);
  const pick = (values: readonly number[]) => values[Math.floor(random() * values.length)] ?? 1;
  return Array.from({ length: ARRIVALS }, () => {
    const cores = pick([4, 8, 8, 12, 16, 16, 32, 64]);
    return [cores * 1000, cores * pick([2, 4, 4, 8, 10]), pick([20, 80, 100, 240, 640])];
  });
}

function generateFleet(): FleetTrace {
  const random = seededRandom(8);
  const pick = (values: readonly number[]) => values[Math.floor(random() * values.length)] ?? 1;
  return {
    name: "generated",
    hosts: Array.from({ length: 1_000 }, () => {
      const cores = pick([32, 64, 96, 128]);
      return [cores * 1000, cores * pick([4, 8]) * 1024];
    }),
    instances: Array.from({ length: 1_000 }, () => {
      const cores = pick([1, 2, 4, 4, 8, 12, 16, 32]);
      return [cores * 1000, cores * pick([1, 2, 4, 8]) * 1024];
    }),
  };
}
