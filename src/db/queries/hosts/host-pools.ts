import { eq, gt, type SQL, sql } from "drizzle-orm";
import type { HostPool } from "../../../contracts/api/hosts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hostPools } from "../../schema/hosts.ts";

export type HostPoolPolicy = Pick<HostPool, "overcommitPercent" | "highWaterPercent">;

/** Lists pools after `afterName`, by name. */
export async function listHostPools(
  q: Queryable,
  afterName: string | undefined,
  limit: number,
): Promise<HostPool[]> {
  return q
    .select()
    .from(hostPools)
    .where(gt(hostPools.name, afterName ?? ""))
    .orderBy(hostPools.name)
    .limit(limit);
}

export async function hasHostPool(q: Queryable, name: string): Promise<boolean> {
  return (await findHostPool(q, name)) !== undefined;
}

export async function findHostPool(q: Queryable, name: string): Promise<HostPool | undefined> {
  const rows = await q.select().from(hostPools).where(eq(hostPools.name, name));
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
  const rows = await q
    .insert(hostPools)
    .values({ name, version: nextVersion, ...policy })
    .onConflictDoUpdate({
      target: hostPools.name,
      set: { version: sql`excluded.version`, ...policy },
    })
    .returning();
  return rows[0];
}

/** Inserts a pool, unless a pool with this name exists. */
export async function ensureHostPool(
  q: Queryable,
  name: string,
  policy: HostPoolPolicy,
): Promise<void> {
  await q
    .insert(hostPools)
    .values({ name, version: nextVersion, ...policy })
    .onConflictDoNothing({ target: hostPools.name });
}

const nextVersion: SQL = sql`(select coalesce(max(version), 0) + 1 from host_pools)`;
