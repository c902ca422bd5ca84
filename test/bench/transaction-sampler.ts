import { setTimeout as delay } from "node:timers/promises";
import type { DurableCluster } from "./durable-cluster.ts";

const SAMPLE_INTERVAL_MS = 20;

export interface LongTransaction {
  longestMs: number;
  /** The process, the state of its connection and for what that waited. */
  session: string;
  /** The statement that it ran last. */
  query: string;
}

export interface TransactionSampler {
  /** Gives the oldest transaction that a sample saw. */
  stop(): Promise<LongTransaction>;
}

/**
 * Samples the open transactions of Berth's processes every 20 ms. A transaction is seen up to one interval
 * before its end, so the longest one is measured to 20 ms and the time of a sample.
 */
export function startTransactionSampler(cluster: DurableCluster): TransactionSampler {
  let longest: LongTransaction = { longestMs: 0, session: "", query: "" };
  const stopping = new AbortController();
  const sampling = (async () => {
    while (!stopping.signal.aborted) {
      const [oldest] = await cluster.sql<{ ageMs: number; session: string; query: string }[]>`
        select extract(epoch from clock_timestamp() - xact_start)::float8 * 1000 as "ageMs", left(query, 200) as query,
          concat_ws(' ', application_name, state, wait_event_type, wait_event) as session
        from pg_stat_activity
        where application_name like 'berth-%' and backend_type = 'client backend' and xact_start is not null
        order by xact_start limit 1`;
      if (oldest && oldest.ageMs > longest.longestMs) {
        const { ageMs, session, query } = oldest;
        longest = { longestMs: Math.round(ageMs), session, query };
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
