import { execFile } from "node:child_process";
import { appendFileSync, mkdirSync, readFileSync } from "node:fs";
import { readdir, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { removeTraces, type Trace } from "./remove-traces.ts";

const run = promisify(execFile);
/** One file for each process. */
const folder = "/run/berth-traces";
/** In the name of a file, between the remover and the killed process. */
const claimMark = "~";

/** Creates a network namespace, which later runs remove if this process is killed. */
export async function addNamespace(namespace: string): Promise<void> {
  noteTraces({ namespace });
  await run("ip", ["netns", "add", namespace]);
}

/**
 * Notes what this process is about to create. Only SIGKILL, or a crash, leaves it on the machine,
 * because tests and the demo remove it at their end.
 */
export function noteTraces(...traces: readonly Trace[]): void {
  mkdirSync(folder, { recursive: true });
  const lines = traces.map((trace) => `${JSON.stringify(trace)}\n`);
  appendFileSync(path.join(folder, ownName()), lines.join(""));
}

/** For a process that has removed everything. */
export async function forgetTraces(): Promise<void> {
  await rm(path.join(folder, ownName()), { force: true });
}

/**
 * Removes what dead processes have noted and left, except what a process that runs has noted too.
 * If it cannot remove something, a later call or run tries again.
 */
export async function removeDeadTraces(): Promise<void> {
  const files = await readdir(folder).catch(() => []);
  const live = await Promise.all(files.filter((file) => !isDead(file)).map(readNote));
  const claimed = await Promise.all(files.filter(isDead).map(claim));
  const dead = await Promise.all(claimed.map(readNote));
  const used = new Set(live.flat());
  const lines = new Set(dead.flat().filter((line) => !used.has(line)));
  const failures = await removeTraces([...lines].map((line) => JSON.parse(line) as Trace));
  for (const failure of failures) console.warn(`a killed run has left ${failure}`);
  if (failures.length === 0)
    for (const file of claimed) await rm(path.join(folder, file), { force: true });
}

/** The note becomes one of this process, unless another run is faster. */
async function claim(file: string): Promise<string> {
  const claimed = `${ownName()}${claimMark}${file.replace(/.*~/, "")}`;
  await rename(path.join(folder, file), path.join(folder, claimed)).catch(() => undefined);
  return claimed;
}

/** Claimed notes of this process are those that it could not remove completely. */
function isDead(file: string): boolean {
  const [owner = "", claimed] = file.split(claimMark);
  return owner !== nameOf(owner.split("-")[0]) || (claimed !== undefined && owner === ownName());
}

async function readNote(file: string): Promise<string[]> {
  const text = await readFile(path.join(folder, file), "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

function ownName(): string {
  return nameOf(String(process.pid));
}

/** Its id and its start: another process may get the id of a dead one. */
function nameOf(pid = ""): string {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ");
    return `${pid}-${fields?.[19]}`;
  } catch {
    return "dead";
  }
}
