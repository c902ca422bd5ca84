import type { Ask, Capacity } from "./traces.ts";

/**
 * What other schedulers do, beside which Berth is measured: each takes the open host with the highest score on which a set
 * fits, ties by the order in which hosts were opened. Written from their sources; integers where theirs are integers.
 */
export interface OpenHost {
  capacity: Capacity;
  free: [number, number, number];
}

type Score = (host: OpenHost, ask: Ask["amounts"]) => number;

/** Free share of each dimension that the host has, once `ask` is on it. */
function sharesAfter(host: OpenHost, ask: Ask["amounts"], dimensionsMax = 3): number[] {
  const shares: number[] = [];
  for (let d = 0; d < dimensionsMax; d++) {
    const capacity = host.capacity[d] ?? 0;
    if (capacity > 0) shares.push(((host.free[d] ?? 0) - (ask[d] ?? 0)) / capacity);
  }
  return shares;
}

/** Kubernetes' NodeResourcesFit: the mean over resources of a whole percentage. */
function meanPercent(shares: readonly number[]): number {
  return Math.floor(
    shares.reduce((sum, share) => sum + Math.floor(share * 100), 0) / shares.length,
  );
}

export const referencePolicies: Readonly<Record<string, Score>> = {
  "first fit": () => 0,
  "least allocated": (host, ask) => meanPercent(sharesAfter(host, ask)),
  "most allocated": (host, ask) => meanPercent(sharesAfter(host, ask).map((share) => 1 - share)),
  // ScoreFitBinPack looks at CPU and memory only.
  "nomad best fit": (host, ask) =>
    20 - sharesAfter(host, ask, 2).reduce((sum, share) => sum + 10 ** share, 0),
  "dot product": (host, ask) => {
    let sum = 0;
    for (const [d, capacity] of host.capacity.entries()) {
      if (capacity > 0) sum += ((ask[d] ?? 0) / capacity) * ((host.free[d] ?? 0) / capacity);
    }
    return sum;
  },
};

/** The position of the host that `score` prefers among those that fit and that `admits` lets through, or -1. */
export function chooseByScore(
  hosts: readonly OpenHost[],
  ask: Ask["amounts"],
  score: Score,
  admits: (position: number) => boolean,
): number {
  let best = -1;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const [position, host] of hosts.entries()) {
    const { free } = host;
    if (ask[0] > free[0] || ask[1] > free[1] || ask[2] > free[2] || !admits(position)) continue;
    const value = score(host, ask);
    if (value <= bestScore) continue;
    best = position;
    bestScore = value;
  }
  return best;
}
