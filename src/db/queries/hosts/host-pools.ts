import { eq, gt, type SQL, sql } from "drizzle-orm";
import type { HostPool } from "../../../contracts/api/hosts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hostPools } from "../../schema/hosts.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { queryRows } from "../runtime/query.ts";

export type HostPoolPolicy = Pick<HostPool, "overcommitPercent" | "highWaterPercent">;

const poolColumns = {
  name: hostPools.name,
  version: hostPools.version,
  overcommitPercent: hostPools.overcommitPercent,
  highWaterPercent: hostPools.highWaterPercent,
};

/** Lists pools after `afterName`, by name. */
export async function listHostPools(
  q: Queryable,
  afterName: string | undefined,
  limit: number,
): Promise<HostPool[]> {
  return q
    .select(poolColumns)
    .from(hostPools)
    .where(gt(hostPools.name, afterName ?? ""))
    .orderBy(hostPools.name)
    .limit(limit);
}

export async function hasHostPool(q: Queryable, name: string): Promise<boolean> {
  return (await findHostPool(q, name)) !== undefined;
}

export async function findHostPool(q: Queryable, name: string): Promise<HostPool | undefined> {
  const rows = await q.select(poolColumns).from(hostPools).where(eq(hostPools.name, name));
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
  const [row] = await queryRows<{ version: number }>(
    q,
    sql`${insertInto(hostPools, { name, version: nextVersion, ...policy })}
        on conflict (name) do update set version = excluded.version,
          overcommit_percent = excluded.overcommit_percent, high_water_percent = excluded.high_water_percent
        returning version::float8 as version`,
  );
  return row && { name, ...row, ...policy };
}

/** Inserts a pool, unless a pool with this name exists. */
export async function ensureHostPool(
  q: Queryable,
  name: string,
  policy: HostPoolPolicy,
): Promise<void> {
  const values = { name, version: nextVersion, ...policy };
  await q.execute(sql`${insertInto(hostPools, values)} on conflict (name) do nothing`);
}

const nextVersion: SQL = sql`(select coalesce(max(version), 0) + 1 from host_pools)`;
