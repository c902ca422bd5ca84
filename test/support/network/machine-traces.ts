import { execFile } from "node:child_process";
import { appendFileSync, mkdirSync } from "node:fs";
import { access, readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { findFilteredBridges, removeFilterChains } from "./filter-chains.ts";

const run = promisify(execFile);
/** One file for each process, named by its id. */
const folder = "/run/berth-tests";

/** Something in the network of the machine that outlives a process. */
export type Trace =
  | { namespace: string }
  /** A bridge of Open vSwitch or of the kernel, with the chains of its driver. */
  | { bridge: string }
  /** The links of a driver. */
  | { linkPrefix: string }
  /** The socket of a plugin. */
  | { file: string };

/** Creates a network namespace, which later test runs remove if this process is killed. */
export async function addNamespace(namespace: string): Promise<void> {
  noteTraces({ namespace });
  await run("ip", ["netns", "add", namespace]);
}

/**
 * Notes what this process is about to create. Only SIGKILL, or a crash, leaves it on the machine,
 * because tests remove it at their end.
 */
export function noteTraces(...traces: readonly Trace[]): void {
  mkdirSync(folder, { recursive: true });
  const lines = traces.map((trace) => `${JSON.stringify(trace)}\n`);
  appendFileSync(path.join(folder, String(process.pid)), lines.join(""));
}

/**
 * Removes what dead processes have noted and left. If another process has the id of a dead one, its
 * traces stay until a later run.
 */
export async function removeDeadTraces(): Promise<void> {
  const pids = await readdir(folder).catch(() => []);
  const isDead = await Promise.all(pids.map(async (pid) => !(await exists(`/proc/${pid}`))));
  const files = pids.filter((_, index) => isDead[index]).map((pid) => path.join(folder, pid));
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
  const lines = new Set(texts.flatMap((text) => text.split("\n")).filter((line) => line !== ""));
  const traces = [...lines].map((line) => JSON.parse(line) as Trace);
  for (const trace of traces) await remove(trace);
  const bridges = traces.flatMap((trace) => ("bridge" in trace ? [trace.bridge] : []));
  if (bridges.length > 0)
    for (const bridge of await findFilteredBridges(bridges)) await removeFilterChains(bridge);
  for (const file of files) await rm(file, { force: true });
}

/** Ignores missing traces, because two runs may remove the same one. */
async function remove(trace: Trace): Promise<void> {
  const deleteLink = (name: string) => run("ip", ["link", "delete", name]).catch(() => undefined);
  if ("namespace" in trace) {
    const { namespace } = trace;
    if (await exists(`/run/netns/${namespace}`))
      await run("ip", ["netns", "delete", namespace]).catch(() => undefined);
  } else if ("bridge" in trace) {
    if (await exists(`/sys/class/net/${trace.bridge}`)) await deleteLink(trace.bridge);
  } else if ("linkPrefix" in trace) {
    const own = new RegExp(`^${trace.linkPrefix}[hcu]-`);
    const names = await readdir("/sys/class/net");
    for (const name of names.filter((each) => own.test(each))) await deleteLink(name);
  } else await rm(trace.file, { force: true });
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
