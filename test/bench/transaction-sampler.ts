import { setTimeout as delay } from "node:timers/promises";
import type { DurableCluster } from "./durable-cluster.ts";

const SAMPLE_INTERVAL_MS = 20;

export interface TransactionSampler {
  /** Gives the age of the oldest transaction that a sample saw, and the statement that it ran then. */
  stop(): Promise<{ longestMs: number; query: string }>;
}

/**
 * Samples the open transactions of Berth's processes every 20 ms. A transaction is seen up to one interval
 * before its end, so the longest one is measured to 20 ms and the time of a sample.
 */
export function startTransactionSampler(cluster: DurableCluster): TransactionSampler {
  let longest = { longestMs: 0, query: "" };
  const stopping = new AbortController();
  const sampling = (async () => {
    while (!stopping.signal.aborted) {
      const [oldest] = await cluster.sql<{ ageMs: number; query: string }[]>`
        select extract(epoch from clock_timestamp() - xact_start)::float8 * 1000 as "ageMs", left(query, 200) as query
        from pg_stat_activity
        where application_name like 'berth-%' and backend_type = 'client backend' and xact_start is not null
        order by xact_start limit 1`;
      if (oldest && oldest.ageMs > longest.longestMs) {
        longest = { longestMs: Math.round(oldest.ageMs), query: oldest.query };
      }
      await delay(SAMPLE_INTERVAL_MS);
    }
  })();
  return {
    async stop() {
      stopping.abort();
      await sampling;
      return longest;
    },
  };
}
