import { sql } from "drizzle-orm";
import type { HostPool } from "../../../contracts/api/hosts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rowsOf } from "../runtime/query.ts";

const poolColumns = sql`name, version::float8 as version, overcommit_percent as "overcommitPercent",
  high_water_percent as "highWaterPercent"`;

export type HostPoolKnobs = Pick<HostPool, "overcommitPercent" | "highWaterPercent">;

/** By name, after `afterName`. */
export async function listHostPools(
  q: Queryable,
  afterName: string | undefined,
  limit: number,
): Promise<HostPool[]> {
  return rowsOf<HostPool>(
    q,
    sql`select ${poolColumns} from host_pools where name > ${afterName ?? ""} order by name limit ${limit}`,
  );
}

export async function hasHostPool(q: Queryable, name: string): Promise<boolean> {
  const rows = await rowsOf<{ name: string }>(
    q,
    sql`select name from host_pools where name = ${name}`,
  );
  return rows.length > 0;
}

export async function findHostPool(q: Queryable, name: string): Promise<HostPool | undefined> {
  const rows = await rowsOf<HostPool>(
    q,
    sql`select ${poolColumns} from host_pools where name = ${name}`,
  );
  return rows[0];
}

/** Makes who writes pools wait for each other until their transactions end; reading is not held up. */
export async function lockHostPools(q: Queryable): Promise<void> {
  await q.execute(sql`lock table host_pools in share row exclusive mode`);
}

/**
 * Writes a pool with a version above that of every pool, so that the newest version names the knobs of all of them. The
 * caller has locked the pools, so that no two take the same version.
 */
export async function putHostPool(
  q: Queryable,
  name: string,
  knobs: HostPoolKnobs,
): Promise<HostPool | undefined> {
  const rows = await rowsOf<HostPool>(
    q,
    sql`insert into host_pools (name, version, overcommit_percent, high_water_percent)
        values (${name}, (select coalesce(max(version), 0) + 1 from host_pools),
          ${JSON.stringify(knobs.overcommitPercent)}::jsonb, ${JSON.stringify(knobs.highWaterPercent)}::jsonb)
        on conflict (name) do update set version = excluded.version,
          overcommit_percent = excluded.overcommit_percent, high_water_percent = excluded.high_water_percent
        returning ${poolColumns}`,
  );
  return rows[0];
}

/** Inserts a pool unless there is one of this name. */
export async function ensureHostPool(
  q: Queryable,
  name: string,
  knobs: HostPoolKnobs,
): Promise<void> {
  await q.execute(sql`
    insert into host_pools (name, version, overcommit_percent, high_water_percent)
    values (${name}, (select coalesce(max(version), 0) + 1 from host_pools),
      ${JSON.stringify(knobs.overcommitPercent)}::jsonb, ${JSON.stringify(knobs.highWaterPercent)}::jsonb)
    on conflict (name) do nothing`);
}
