import type { BerthSet } from "../../src/contracts/api/sets.ts";
import type { DemoBerth } from "./demo-berth.ts";
import type { NetworkView } from "./demo-view.ts";

export const POLL_MS = 25;
/** Lists take CPU time that starting sets need. A set has its address long before it answers. */
const LIST_MS = 75;
/** Sets with addresses may be replaced. */
const RELIST_MS = 1_000;
const PROBE_TIMEOUT_MS = 400;

export interface WebAnswer {
  set: BerthSet;
  address: string;
  /** Time of this process's clock, in milliseconds. */
  atMs: number;
  text: string;
}

/** Desired sets of a service. */
export async function listLiveSets(berth: DemoBerth, service: string): Promise<BerthSet[]> {
  const page = await berth.request<{ items: BerthSet[] }>("GET", `/v1/sets?service=${service}`);
  return page.items.filter((set) => set.desired === "running");
}

/** Reads a page from this machine; undefined without an answer. */
export async function readPage(address: string): Promise<string | undefined> {
  try {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
    const response = await fetch(`http://${address}/`, {
      signal,
      headers: { Connection: "close" },
    });
    const text = await response.text();
    return response.ok ? text.trim() : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Waits until `count` sets of the service have answered over HTTP at their own addresses, to each
 * other. Calls
 * `onAnswer` at the first answer of each. Sets in `known` have answered before and count. Throws
 * after `deadlineMs`.
 */
export async function untilAnswering(
  berth: DemoBerth,
  options: {
    service: string;
    count: number;
    known: Map<string, WebAnswer>;
    view: NetworkView;
    deadlineMs: number;
    onAnswer: (answer: WebAnswer) => void;
  },
): Promise<void> {
  const beganAtMs = Date.now();
  const { service, count, known } = options;
  let sets: BerthSet[] = [];
  let listedAtMs = Number.NEGATIVE_INFINITY;
  for (;;) {
    const areComplete = sets.filter(({ address }) => address !== null).length >= count;
    if (performance.now() - listedAtMs >= (areComplete ? RELIST_MS : LIST_MS)) {
      listedAtMs = performance.now();
      sets = await listLiveSets(berth, service);
    }
    const fresh = sets.filter((set) => set.address !== null && !known.has(set.id));
    await Promise.all(
      fresh.map(async (set) => {
        const address = set.address ?? "";
        const text = await options.view.readPage(set);
        if (text === undefined) return;
        const answer = { set, address, atMs: Date.now(), text };
        known.set(set.id, answer);
        options.onAnswer(answer);
      }),
    );
    if (sets.filter((set) => known.has(set.id)).length >= count) return;
    if (Date.now() - beganAtMs > options.deadlineMs) {
      const reasons = sets.flatMap((set) => (set.reason ? [set.reason.text] : []));
      throw new Error(
        `only ${known.size} of ${count} sets answered within ${options.deadlineMs / 1000} s; ${reasons[0] ?? "no reason is known"}`,
      );
    }
    await pause(POLL_MS);
  }
}

/** Waits until the API lists exactly `count` sets of the service, including stopping ones. */
export async function untilLeft(
  berth: DemoBerth,
  service: string,
  count: number,
  deadlineMs: number,
): Promise<BerthSet[]> {
  const beganAtMs = Date.now();
  for (;;) {
    const { items } = await berth.request<{ items: BerthSet[] }>(
      "GET",
      `/v1/sets?service=${service}`,
    );
    if (items.length === count) return items;
    if (Date.now() - beganAtMs > deadlineMs)
      throw new Error(`${items.length} sets are left after ${deadlineMs / 1000} s, not ${count}`);
    await pause(POLL_MS);
  }
}

export async function pause(durationMs: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, durationMs));
}
