/** The hosts of a pool that are ready. A lost or unhealthy one takes no new sets anyway. */
export interface PoolSelfTests {
  name: string;
  /** Ready hosts whose self test failed. */
  failedSelfTests: number;
  /** Read only for a pool with failed self tests, and 0 for others. */
  readyHosts: number;
}

/**
 * Finds the pools whose failed self tests do not count. If more than `percentMax` of a pool's hosts
 * fail at the same time, probably the test or an upgrade is wrong, not their machines. The planner
 * then places sets on them (I12). A single failed host never counts as such a case.
 */
export function findPoolsWithIgnoredSelfTest(
  pools: readonly PoolSelfTests[],
  percentMax: number,
): ReadonlySet<string> {
  const ignored = pools.filter(
    ({ failedSelfTests: failed, readyHosts }) =>
      failed > 1 && failed * 100 > readyHosts * percentMax,
  );
  return new Set(ignored.map(({ name }) => name));
}
