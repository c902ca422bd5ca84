import { sql } from "drizzle-orm";
import type { HostPool } from "../../../contracts/api/hosts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows } from "../runtime/query.ts";

const poolColumns = sql`name, version::float8 as version, overcommit_percent as "overcommitPercent",
  high_water_percent as "highWaterPercent"`;

export type HostPoolPolicy = Pick<HostPool, "overcommitPercent" | "highWaterPercent">;

/** Lists pools after `afterName`, by name. */
export async function listHostPools(
  q: Queryable,
  afterName: string | undefined,
  limit: number,
): Promise<HostPool[]> {
  return queryRows<HostPool>(
    q,
    sql`select ${poolColumns} from host_pools where name > ${afterName ?? ""} order by name limit ${limit}`,
  );
}

export async function hasHostPool(q: Queryable, name: string): Promise<boolean> {
  const rows = await queryRows<{ name: string }>(
    q,
    sql`select name from host_pools where name = ${name}`,
  );
  return rows.length > 0;
}

export async function findHostPool(q: Queryable, name: string): Promise<HostPool | undefined> {
  const rows = await queryRows<HostPool>(
    q,
    sql`select ${poolColumns} from host_pools where name = ${name}`,
  );
  return rows[0];
}

/** Serializes writers of pools until the transaction ends. Readers do not wait. */
export async function lockHostPools(q: Queryable): Promise<void> {
  await q.execute(sql`lock table host_pools in share row exclusive mode`);
}

/**
 * Inserts or replaces a pool. Its version is above the versions of all pools, so that the newest
 * version identifies the policies of all pools. The caller has locked the pools.
 */
export async function putHostPool(
  q: Queryable,
  name: string,
  policy: HostPoolPolicy,
): Promise<HostPool | undefined> {
  const rows = await queryRows<HostPool>(
    q,
    sql`insert into host_pools (name, version, overcommit_percent, high_water_percent)
        values (${name}, (select coalesce(max(version), 0) + 1 from host_pools),
          ${JSON.stringify(policy.overcommitPercent)}::jsonb, ${JSON.stringify(policy.highWaterPercent)}::jsonb)
        on conflict (name) do update set version = excluded.version,
          overcommit_percent = excluded.overcommit_percent, high_water_percent = excluded.high_water_percent
        returning ${poolColumns}`,
  );
  return rows[0];
}

/** Inserts a pool, unless a pool with this name exists. */
export async function ensureHostPool(
  q: Queryable,
  name: string,
  policy: HostPoolPolicy,
): Promise<void> {
  await q.execute(sql`
    insert into host_pools (name, version, overcommit_percent, high_water_percent)
    values (${name}, (select coalesce(max(version), 0) + 1 from host_pools),
      ${JSON.stringify(policy.overcommitPercent)}::jsonb, ${JSON.stringify(policy.highWaterPercent)}::jsonb)
    on conflict (name) do nothing`);
}
