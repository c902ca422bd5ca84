import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import Docker from "dockerode";
import type { BerthEvent } from "../../src/contracts/api/events.ts";
import type { DemoBerth } from "./demo-berth.ts";
import { pause } from "./demo-watch.ts";

/** A phase of a set's start: its name, and its duration. */
export interface StartPhase {
  name: string;
  durationMs: number;
}

const READY_DEADLINE_MS = 10_000;
const READY_POLL_MS = 50;

/**
 * The phases of a set's start, in order. Each lasts from the end of the previous one until its own
 * end, so they add up to the whole start. Phases of the host that overlap count where they end
 * last. The times are those of Berth's log, Docker's events and Berth's event of
 * readiness.
 */
export async function readStartPhases(
  berth: DemoBerth,
  set: { id: string; zeroMs: number; acceptedMs: number; answeredAtMs: number },
): Promise<StartPhase[]> {
  const readyAtMs = await waitForEvent(berth, set.id, "set-ready");
  const docker = await readDockerEvents(set.id, set.zeroMs);
  const isInfra = ({ container }: ContainerEvent) => container === "infra";
  const lastOf = (action: string, isWanted: (event: ContainerEvent) => boolean) =>
    docker.findLast((event) => event.action === action && isWanted(event))?.atMs;
  const ends: [string, number | undefined][] = [
    ["request", set.zeroMs + set.acceptedMs],
    ["placement", await berth.timeOfLogLine('"msg":"job"', '"cause":"sets-added"')],
    ["creation of infra", lastOf("create", isInfra)],
    ["creation of containers", lastOf("create", (event) => !isInfra(event))],
    ["volume", await berth.timeOfLogLine('"msg":"volume created"', set.id)],
    ["start of infra", lastOf("start", isInfra)],
    ["start of containers", lastOf("start", (event) => !isInfra(event))],
    ["first answer", set.answeredAtMs],
    ["probe and report", readyAtMs],
  ];
  let endedAtMs = set.zeroMs;
  return ends.flatMap(([name, atMs]) => {
    if (atMs === undefined) return [];
    const durationMs = Math.max(0, Math.round(atMs - endedAtMs));
    endedAtMs = Math.max(endedAtMs, atMs);
    return [{ name, durationMs }];
  });
}

/** Time of the set's latest event of this kind, on the clock of the database. */
async function waitForEvent(
  berth: DemoBerth,
  setId: string,
  kind: BerthEvent["kind"],
): Promise<number | undefined> {
  const deadlineMs = performance.now() + READY_DEADLINE_MS;
  while (performance.now() < deadlineMs) {
    const { items } = await berth.request<{ items: BerthEvent[] }>(
      "GET",
      `/v1/events?set=${setId}&kind=${kind}`,
    );
    if (items[0]) return Date.parse(items[0].at);
    await pause(READY_POLL_MS);
  }
  return undefined;
}

interface ContainerEvent {
  action: string;
  container: string;
  atMs: number;
}

/** Events of a set's containers since then, oldest first. */
async function readDockerEvents(setId: string, sinceMs: number): Promise<ContainerEvent[]> {
  const stream = await new Docker().getEvents({
    since: Math.floor(sinceMs / 1_000),
    until: Math.ceil(Date.now() / 1_000),
    filters: { type: ["container"], label: [`berth.set=${setId}`] },
  });
  const events: ContainerEvent[] = [];
  for await (const line of createInterface({ input: Readable.from(stream) })) {
    const { Action, Actor, timeNano } = JSON.parse(line) as {
      Action: string;
      Actor: { Attributes: Record<string, string> };
      timeNano: number;
    };
    const container = Actor.Attributes["berth.container"] ?? "";
    events.push({ action: Action, container, atMs: timeNano / 1e6 });
  }
  return events;
}
