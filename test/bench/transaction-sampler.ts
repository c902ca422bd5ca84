import { setTimeout as delay } from "node:timers/promises";
import type { DurableCluster } from "./durable-cluster.ts";

const SAMPLE_INTERVAL_MS = 20;
/** Younger transactions are not sampled. */
const AGE_MIN_MS = 40;
const SESSIONS_MAX = 50;
const QUERY_CHARACTERS = 90;
const PARTS_SHOWN_MAX = 6;

export interface LongTransaction {
  longestMs: number;
  /** Where its time went, as far as samples saw it: process, statement and wait. */
  parts: string[];
}

export interface TransactionSampler {
  /** Returns the longest transaction that the samples saw. */
  stop(): Promise<LongTransaction>;
}

interface Session {
  /** All samples of one transaction share it. */
  key: string;
  ageMs: number;
  part: string;
}

/** The samples of one transaction. */
interface Seen {
  ageMs: number;
  samplesByPart: Map<string, number>;
}

/**
 * Samples the open transactions of Berth's processes every 20 ms. A sample may see a transaction up
 * to one interval before its end. The longest time is therefore accurate to 20 ms and the time of a
 * sample.
 */
export function startTransactionSampler(cluster: DurableCluster): TransactionSampler {
  const open = new Map<string, Seen>();
  let longest: Seen = { ageMs: 0, samplesByPart: new Map() };
  const stopping = new AbortController();
  const sampling = (async () => {
    while (!stopping.signal.aborted) {
      const sessions = await readSessions(cluster);
      const keys = new Set(sessions.map(({ key }) => key));
      for (const key of open.keys()) if (!keys.has(key)) open.delete(key);
      for (const { key, ageMs, part } of sessions) {
        const seen = open.get(key) ?? { ageMs, samplesByPart: new Map() };
        open.set(key, seen);
        seen.ageMs = ageMs;
        seen.samplesByPart.set(part, (seen.samplesByPart.get(part) ?? 0) + 1);
        if (ageMs > longest.ageMs) longest = seen;
      }
      await delay(SAMPLE_INTERVAL_MS);
    }
  })();
  return {
    async stop() {
      stopping.abort();
      await sampling;
      return { longestMs: Math.round(longest.ageMs), parts: describeParts(longest) };
    },
  };
}

async function readSessions(cluster: DurableCluster): Promise<Session[]> {
  return await cluster.sql<Session[]>`
    select pid || ' ' || xact_start as key,
      extract(epoch from clock_timestamp() - xact_start)::float8 * 1000 as "ageMs",
      concat_ws(' ', application_name, state, wait_event_type, wait_event) || ': '
        || left(regexp_replace(query, '\\s+', ' ', 'g'), ${QUERY_CHARACTERS}::int) as part
    from pg_stat_activity
    where application_name like 'berth-%' and backend_type = 'client backend'
      and xact_start < clock_timestamp() - make_interval(secs => ${AGE_MIN_MS / 1_000}::float8)
    order by xact_start limit ${SESSIONS_MAX}`;
}

function describeParts({ samplesByPart }: Seen): string[] {
  const samples = [...samplesByPart.values()].reduce((sum, count) => sum + count, 0);
  return [...samplesByPart]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, PARTS_SHOWN_MAX)
    .map(([part, count]) => `${Math.round((count * 100) / samples)} % ${part}`);
}
