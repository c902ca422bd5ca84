import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/**
 * Workloads of the packing benchmark: what sets ask for, in the order in which they come, and the hosts they go to.
 * Amounts are integers: millicores, and MiB for everything else, in the order cpu, memory, disk.
 */
export interface Workload {
  /** `trace`: recorded; `generated`: no trace was there, so its figures compare policies only. */
  source: "trace" | "generated";
  asks: readonly Ask[];
}

export interface Ask {
  service: string;
  amounts: readonly [cpuMillis: number, memoryMib: number, diskMib: number];
}

export type Capacity = readonly [cpuMillis: number, memoryMib: number, diskMib: number];

const dataFolder = fileURLToPath(new URL("../../../shared/data/", import.meta.url));
const MIB_PER_GIB = 1024;

/** The machine that the reference figures for dlrm were made with: 208 cores, 1 TiB, 2.5 TiB. */
export const dlrmHost: Capacity = [208_000, 1024 * MIB_PER_GIB, 2560 * MIB_PER_GIB];

/**
 * Instances of the dlrm trace in the order of their arrival. Those without a creation time were there before the trace
 * began, in an order nobody recorded: they did not arrive, and are left out.
 */
export function readDlrmArrivals(): Workload {
  const file = `${dataFolder}dlrm/disaggregated_DLRM_trace.csv`;
  if (!existsSync(file)) return { source: "generated", asks: generateAsks(16_000) };
  const rows = readCsv(file).filter((row) => row["creation_time"] !== "");
  rows.sort((a, b) => numberIn(a, "creation_time") - numberIn(b, "creation_time"));
  const mib = (row: Row, column: string) => Math.ceil(numberIn(row, column) * MIB_PER_GIB);
  return {
    source: "trace",
    asks: rows.map((row) => ({
      service: textIn(row, "app_name"),
      amounts: [
        Math.round(numberIn(row, "cpu_request") * 1000),
        mib(row, "memory_request"),
        mib(row, "disk_request"),
      ],
    })),
  };
}

/** Hosts of an openb node list. Without a file, hosts of five sizes. */
export function readHosts(file = `${dataFolder}openb/openb_node_list_all_node.csv`): Capacity[] {
  if (!existsSync(file)) return generateHosts(1_500);
  return readCsv(file).map((row) => [numberIn(row, "cpu_milli"), numberIn(row, "memory_mib"), 0]);
}

/** Pods of an openb pod list that ask for no GPU: to be drawn from. */
export function readPods(file = `${dataFolder}openb/openb_pod_list_default.csv`): Workload {
  if (!existsSync(file)) {
    const asks = generateAsks(2_000).map(({ service, amounts: [cpu, memory] }): Ask => {
      return { service, amounts: [Math.ceil(cpu / 8), Math.ceil(memory / 8), 0] };
    });
    return { source: "generated", asks };
  }
  const rows = readCsv(file).filter((row) => numberIn(row, "num_gpu") === 0);
  return {
    source: "trace",
    asks: rows.map((row) => ({
      service: textIn(row, "name"),
      amounts: [numberIn(row, "cpu_milli"), numberIn(row, "memory_mib"), 0],
    })),
  };
}

/** A small seeded generator (mulberry32), so that a sequence can be had again: uniform in [0, 1). */
export function createRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function generateAsks(count: number): Ask[] {
  const random = createRandom(1);
  const shapes = Array.from({ length: 90 }, (_, position): Ask => {
    const cores = 2 + Math.floor(random() ** 2 * 95);
    const memoryGib = Math.ceil(cores * (2 + random() * 6));
    return {
      service: `service-${position}`,
      amounts: [
        cores * 1000,
        Math.min(1000, memoryGib) * MIB_PER_GIB,
        (80 + Math.floor(random() * 700)) * MIB_PER_GIB,
      ],
    };
  });
  return Array.from({ length: count }, () => pick(shapes, random));
}

function generateHosts(count: number): Capacity[] {
  const sizes: Capacity[] = [16, 32, 64, 96, 128].map((cores) => [
    cores * 1000,
    cores * 4 * MIB_PER_GIB,
    0,
  ]);
  const random = createRandom(2);
  return Array.from({ length: count }, () => pick(sizes, random));
}

export function pick<T>(items: readonly T[], random: () => number): T {
  const item = items[Math.floor(random() * items.length)];
  if (item === undefined) throw new Error("nothing to pick from");
  return item;
}

type Row = Readonly<Record<string, string>>;

/** The traces have no quoted fields. */
function readCsv(file: string): Row[] {
  const [head = "", ...lines] = readFileSync(file, "utf8").trim().split(/\r?\n/);
  const columns = head.split(",");
  return lines.map((line) => {
    const values = line.split(",");
    return Object.fromEntries(columns.map((column, position) => [column, values[position] ?? ""]));
  });
}

function textIn(row: Row, column: string): string {
  const value = row[column];
  if (value === undefined) throw new Error(`the file has no column ${column}`);
  return value;
}

function numberIn(row: Row, column: string): number {
  const value = Number(textIn(row, column));
  if (!Number.isFinite(value)) throw new Error(`${column} is no number: ${textIn(row, column)}`);
  return value;
}
