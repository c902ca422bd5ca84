/**
 * The published policies of other projects, with which packing is compared, over hosts as plain
 * arrays. Each scores a host for an ask; the highest score wins, ties go to the lowest host. All
 * see every host.
 */

export interface BenchHost {
  capacity: readonly number[];
  free: number[];
}

export type Policy = (host: BenchHost, ask: readonly number[]) => number;

const shareFree = (host: BenchHost, ask: readonly number[], d: number): number =>
  ((host.free[d] ?? 0) - (ask[d] ?? 0)) / (host.capacity[d] ?? 1);

const meanFree: Policy = (host, ask) =>
  ask.reduce((sum, _asked, d) => sum + shareFree(host, ask, d), 0) / ask.length;

export const referencePolicies: Record<string, Policy> = {
  /** The first host that fits. */
  "first fit": () => 0,
  /** Kubernetes NodeResourcesFit, LeastAllocated: the mean free share. */
  "Kubernetes least allocated": meanFree,
  /** Kubernetes NodeResourcesFit, MostAllocated: the mean used share. */
  "Kubernetes most allocated": (host, ask) => -meanFree(host, ask),
  /**
   * Nomad's binpack (Google's BestFit v3): 20 minus the sum of 10^free share over CPU and memory.
   */
  "Nomad best fit v3": (host, ask) =>
    20 - 10 ** shareFree(host, ask, 0) - 10 ** shareFree(host, ask, 1),
  /** Tetris (Grandl et al., 2014): the dot product of the request and the free capacity. */
  "dot product": (host, ask) =>
    ask.reduce(
      (sum, asked, d) =>
        sum + (asked / (host.capacity[d] ?? 1)) * ((host.free[d] ?? 0) / (host.capacity[d] ?? 1)),
      0,
    ),
};

/** The host that a policy takes, or -1. First fit stops at the first, as it would. */
export function choose(
  hosts: readonly BenchHost[],
  ask: readonly number[],
  name: string,
  policy: Policy,
): number {
  let best = -1;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const [position, host] of hosts.entries()) {
    if (!ask.every((asked, d) => asked <= (host.free[d] ?? 0))) continue;
    if (name === "first fit") return position;
    const score = policy(host, ask);
    if (score > bestScore) {
      best = position;
      bestScore = score;
    }
  }
  return best;
}
