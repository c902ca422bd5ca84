import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rowsOfWrite } from "./query.ts";

/**
 * Claims the turn of a sweep for the whole fleet, until `everyMs` from now. Gives false when another process has it. The
 * claim is one update by primary key; a process that dies in its turn costs the sweep one interval.
 */
export async function claimSweepTurn(
  q: Queryable,
  name: string,
  everyMs: number,
): Promise<boolean> {
  const nextAt = sql`now() + make_interval(secs => ${everyMs / 1_000}::float8)`;
  const rows = await rowsOfWrite<{ name: string }>(
    q,
    sql`with claimed as (
          update sweep_turns set next_at = ${nextAt} where name = ${name} and next_at <= now() returning name
        ), added as (
          insert into sweep_turns (name, next_at)
          select ${name}, ${nextAt} where not exists (select 1 from sweep_turns where name = ${name})
          on conflict (name) do nothing returning name
        )
        select name from claimed union all select name from added`,
  );
  return rows.length > 0;
}
