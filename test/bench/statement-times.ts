import type { DurableCluster } from "./durable-cluster.ts";

const STATEMENTS_MAX = 16;
const STATEMENT_LENGTH_MAX = 150;

/** Lists the statements on which Postgres spent most time since the last call. */
export async function describeStatements({ sql }: DurableCluster): Promise<string> {
  const rows = await sql<
    { calls: number; ms: number; planMs: number; read: number; query: string }[]
  >`
    select calls::int as calls, (total_exec_time + total_plan_time)::float8 as ms, total_plan_time::float8 as "planMs",
      rows::int as read, query
    from pg_stat_statements order by 2 desc limit ${STATEMENTS_MAX}`;
  await sql`select pg_stat_statements_reset()`;
  const lines = rows.map(({ calls, ms, planMs, read, query }) => {
    const text = query.replaceAll(/\s+/g, " ").slice(0, STATEMENT_LENGTH_MAX);
    return `  ${ms.toFixed(0).padStart(7)} ms (${planMs.toFixed(0)} planning) ${String(calls).padStart(7)} calls ${String(read).padStart(8)} rows  ${text}`;
  });
  return ["  Postgres's statements by time:", ...lines].join("\n");
}
