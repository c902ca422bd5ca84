import { readdir, rm } from "node:fs/promises";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import { CommandError, runCommand } from "../exec.ts";
import { ignoreMissing } from "./write-existing.ts";

/** A property as in D-Bus: a boolean, or an unsigned number of 64 bits. */
export type SliceProperty = readonly [name: string, type: "b" | "t", value: string];

/** systemd answers in milliseconds, but not while it boots, reloads or starts many units. */
const commandTimeoutMs = 30_000;
/** Calls wait here instead of in systemd, where their deadlines would pass. */
const callLimit = createConcurrencyLimit(4);
const systemctl = "/usr/bin/systemctl";
const busctl = "/usr/bin/busctl";
const manager = [
  "org.freedesktop.systemd1",
  "/org/freedesktop/systemd1",
  "org.freedesktop.systemd1.Manager",
];
/** Settings that outlive a unit that is not transient, until the next boot. */
const previousSettings = (slice: string) => `/run/systemd/system.control/${slice}.d`;
const ioProperties = [
  "IOReadBandwidthMax",
  "IOWriteBandwidthMax",
  "IOReadIOPSMax",
  "IOWriteIOPSMax",
];

/**
 * Starts a slice, or changes the properties of one that runs. Afterwards its cgroup exists.
 *
 * The slice is transient: its settings disappear with it. It should have no default dependencies,
 * with which a shutdown stops all slices and the containers in them. The property alone has no
 * effect before the next reload of systemd, which adds them when it first reads a slice. So
 * `systemd/berth-.slice.d` sets it for all slices.
 */
export async function ensureSlice(
  slice: string,
  properties: readonly SliceProperty[],
  { isRunning }: { isRunning: boolean },
  signal: AbortSignal,
): Promise<void> {
  if (!isRunning) {
    const isNew = await startTransient(slice, properties, signal);
    // Waits for the start, and starts a slice that is known but does not run.
    await run(systemctl, ["start", "--", slice], signal);
    if (isNew) return;
  }
  if (properties.length === 0) return;
  await callManager(
    "SetUnitProperties",
    ["sba(sv)", slice, "true", ...toWords(properties)],
    signal,
  );
}

/** False if a unit of that name already exists. */
async function startTransient(
  slice: string,
  properties: readonly SliceProperty[],
  signal: AbortSignal,
): Promise<boolean> {
  const words = toWords([["DefaultDependencies", "b", "false"], ...properties]);
  const args = ["ssa(sv)a(sa(sv))", slice, "replace", ...words, "0"];
  try {
    await callManager("StartTransientUnit", args, signal);
    return true;
  } catch (error) {
    if (error instanceof AgentError && isUnitKnown(error.cause)) return false;
    throw error;
  }
}

function isUnitKnown(error: unknown): boolean {
  return (
    error instanceof CommandError &&
    /already (exists|loaded)|has a fragment file/.test(error.stderrTail)
  );
}

/** Stops a slice without processes; does nothing if it does not exist. */
export async function stopSlice(slice: string, signal: AbortSignal): Promise<void> {
  await run(systemctl, ["stop", "--", slice], signal);
}

/**
 * Deletes the settings of a slice that a previous agent has started. They would remain until the
 * next boot. The slice must be stopped.
 */
export async function clearPreviousSettings(slice: string): Promise<void> {
  await rm(previousSettings(slice), { recursive: true, force: true });
}

/** Removes I/O limits that a previous agent gave to systemd, which would write them again. */
export async function clearIoSettings(slice: string, signal: AbortSignal): Promise<void> {
  const files = (await readdir(previousSettings(slice)).catch(ignoreMissing)) ?? [];
  if (!files.some((file) => ioProperties.some((name) => file.endsWith(`-${name}.conf`)))) return;
  const none = ioProperties.flatMap((name) => [name, "a(st)", "0"]);
  const args = ["sba(sv)", slice, "true", String(ioProperties.length), ...none];
  await callManager("SetUnitProperties", args, signal);
  for (const name of ioProperties)
    await rm(`${previousSettings(slice)}/50-${name}.conf`, { force: true });
}

/** The largest number means "no limit". */
export function toSystemdLimit(limit: number): string {
  return Number.isFinite(limit) ? String(Math.round(limit)) : String(2n ** 64n - 1n);
}

function toWords(properties: readonly SliceProperty[]): string[] {
  return [String(properties.length), ...properties.flat()];
}

async function callManager(
  method: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await run(busctl, ["--quiet", "call", ...manager, method, ...args], signal);
}

async function run(path: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await callLimit(() => runCommand(path, args, { timeoutMs: commandTimeoutMs, signal }));
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new AgentError("cgroup-failed", `systemd refused the set's limits: ${detail}`, {
      phase: "prepare",
      temporary: true,
      cause: error,
    });
  }
}
