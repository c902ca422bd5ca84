import { AppError } from "../../contracts/common/app-error.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  lockTenant,
  type QuotaAsk,
  readTenantUse,
  type TenantUse,
} from "../../db/queries/services/write-services.ts";

/**
 * Throws quota-exceeded when the tenant's services would ask for more than its quota with `added` on top.
 * What counts is what is asked for (desired replicas x template), not what happens to run.
 *
 * Additions of one tenant are serialised by its row, so that two at once cannot both take the last of a quota. That lock
 * would also serialise a burst of small services far from any limit, so it is left out where even hundreds of transactions
 * at once, more than there are connections, could not reach the quota.
 */
export async function assertWithinQuota(
  tx: Queryable,
  tenantId: string,
  added: QuotaAsk,
): Promise<void> {
  if (added.sets <= 0 && added.cpuMillis <= 0 && added.memoryBytes <= 0) return;
  let use = await readTenantUse(tx, tenantId, added);
  if (!use.isFar) {
    await lockTenant(tx, tenantId);
    use = await readTenantUse(tx, tenantId, added);
  }
  const over = limits(use, added).flatMap((limit) =>
    limit.used + limit.added > limit.max
      ? `${limit.used + limit.added} ${limit.what} of ${limit.max} allowed`
      : [],
  );
  if (over.length === 0) return;
  throw new AppError("quota-exceeded", {
    detail: `The tenant would ask for ${over.join(" and ")}. Scale something else in, or ask an admin for a larger quota.`,
  });
}

/**
 * How many of at most `countMax` sets the tenant's quota has room for, `each` of them asking for so much. The tenant's row is
 * locked like in assertWithinQuota, so the answer holds until the transaction ends.
 */
export async function countWithinQuota(
  tx: Queryable,
  tenantId: string,
  each: QuotaAsk,
  countMax: number,
): Promise<number> {
  const all = {
    sets: each.sets * countMax,
    cpuMillis: each.cpuMillis * countMax,
    memoryBytes: each.memoryBytes * countMax,
  };
  let use = await readTenantUse(tx, tenantId, all);
  if (use.isFar) return countMax;
  await lockTenant(tx, tenantId);
  use = await readTenantUse(tx, tenantId, all);
  const rooms = limits(use, each).map((limit) =>
    limit.added <= 0 ? countMax : Math.floor((limit.max - limit.used) / limit.added),
  );
  return Math.max(0, Math.min(countMax, ...rooms));
}

function limits(use: TenantUse, added: QuotaAsk) {
  return [
    { what: "sets", used: use.sets, added: added.sets, max: use.setsMax },
    { what: "CPU millicores", used: use.cpuMillis, added: added.cpuMillis, max: use.cpuMillisMax },
    {
      what: "bytes of memory",
      used: use.memoryBytes,
      added: added.memoryBytes,
      max: use.memoryBytesMax,
    },
  ];
}
