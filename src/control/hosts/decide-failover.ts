/** A host that is lost or unhealthy. Its times come from the clock of the database. */
export interface DownHost {
  id: string;
  name: string;
  pool: string;
  /** lost: its lease expired. unhealthy: its agent reports that Docker does not respond. */
  state: "lost" | "unhealthy";
  downSinceMs: number;
  isPastGrace: boolean;
  /** It has sets that the policies of their services replace. */
  hasSetsToReplace: boolean;
  /** It has sets that should run, including sets that wait for the host. */
  hasSetsToRun: boolean;
}

export interface FailoverDecision {
  /** Hosts whose sets are replaced now, in the order in which they went down. */
  replace: DownHost[];
  /** Hosts whose sets wait, because too many hosts of their pool went down together (I12). */
  hold: { host: DownHost; down: number; total: number }[];
}

/** Hosts that go down within this time of each other count as one outage. */
export const OUTAGE_WINDOW_MS = 10 * 60_000;

/**
 * Decides for which down hosts Berth replaces the sets. If a pool loses more than `percentMax` of
 * its hosts within one window, probably its network failed, not its machines. The sets of those
 * hosts then wait. The sets of a single down host never wait for this reason.
 *
 * A host without sets to run is retired: it counts neither as down nor as part of its pool. A
 * window is measured between hosts, not from now. So hosts that went down together wait until they
 * return or an operator decides.
 */
export function decideFailover(
  downHosts: readonly DownHost[],
  readyHostsByPool: ReadonlyMap<string, number>,
  percentMax: number,
): FailoverDecision {
  const decision: FailoverDecision = { replace: [], hold: [] };
  for (const [pool, members] of groupByPool(downHosts)) {
    const ready = readyHostsByPool.get(pool) ?? 0;
    let first = 0;
    let end = 0;
    for (const host of members) {
      while (downSince(members, first) < host.downSinceMs - OUTAGE_WINDOW_MS) first++;
      while (end < members.length && downSince(members, end) <= host.downSinceMs + OUTAGE_WINDOW_MS)
        end++;
      if (!host.isPastGrace || !host.hasSetsToReplace) continue;
      const down = end - first;
      const total = ready + down;
      const isOutage = down > 1 && down * 100 > total * percentMax;
      if (isOutage) decision.hold.push({ host, down, total });
      else decision.replace.push(host);
    }
  }
  return decision;
}

function downSince(hosts: readonly DownHost[], index: number): number {
  return hosts[index]?.downSinceMs ?? Number.POSITIVE_INFINITY;
}

/** Groups the hosts with sets by pool, each sorted by the time at which they went down. */
function groupByPool(hosts: readonly DownHost[]): Map<string, DownHost[]> {
  const byPool = new Map<string, DownHost[]>();
  const sorted = hosts
    .filter((host) => host.hasSetsToRun)
    .toSorted((a, b) => a.downSinceMs - b.downSinceMs || (a.id < b.id ? -1 : 1));
  for (const host of sorted) {
    const members = byPool.get(host.pool);
    if (members) members.push(host);
    else byPool.set(host.pool, [host]);
  }
  return byPool;
}
