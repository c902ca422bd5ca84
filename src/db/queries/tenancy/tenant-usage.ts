import { type SQL, sql } from "drizzle-orm";
import { notFound } from "../../../contracts/common/app-error.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { assert } from "../../../lib/assert.ts";
import { queryRows } from "../runtime/query.ts";

/** Amounts that a quota bounds. */
export interface QuotaAmounts {
  sets: number;
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
  rootfsBytes: number;
}

export interface TenantUsage {
  /** The sum of desired replicas times the newest template, without services in deletion. */
  intended: QuotaAmounts;
  /** The sum of all sets, pending or booked, until their host reports them absent. */
  existing: QuotaAmounts;
  /** The size of trashed volumes. */
  trashBytes: number;
  max: QuotaAmounts & { trashBytes: number };
  /** The quota allows 1,000 concurrent additions of this size: more than there are connections. */
  hasAmpleQuota: boolean;
}

/** Serializes additions of one tenant until the transaction ends. */
export async function lockTenant(q: Queryable, tenantId: string): Promise<void> {
  await q.execute(sql`select id from tenants where id = ${tenantId} for no key update`);
}

/** Reads the usage of a tenant, and whether its quota is ample for `growth`. Throws not-found. */
export async function getTenantUsage(
  q: Queryable,
  tenantId: string,
  growth: QuotaAmounts,
): Promise<TenantUsage> {
  const [usage] = await queryRows<TenantUsage>(q, selectTenantUsage(tenantId, growth));
  if (!usage) throw notFound("tenant");
  return usage;
}

const dimensions = [
  { name: "sets", column: "sets" },
  { name: "cpuMillis", column: "cpu_millis" },
  { name: "memoryBytes", column: "memory_bytes" },
  { name: "volumeBytes", column: "volume_bytes" },
  { name: "rootfsBytes", column: "rootfs_bytes" },
] as const;

/**
 * Sums the sets of a tenant that are deleted but exist, because their host is down and cannot
 * report them absent. Their replacements need no quota. (Index sets_removing.)
 */
export async function sumSetsOnDownHosts(q: Queryable, tenantId: string): Promise<QuotaAmounts> {
  const sums = sql.raw(
    dimensions
      .filter(({ name }) => name !== "sets")
      .map(({ name, column }) => `coalesce(sum(s.${column}), 0)::float8 as "${name}"`)
      .join(", "),
  );
  const [row] = await queryRows<QuotaAmounts>(
    q,
    sql`select count(*)::int as sets, ${sums} from sets s join hosts h on h.id = s.host_id
        where s.tenant_id = ${tenantId} and s.desired = 'deleted' and s.host_id is not null and h.state <> 'ready'`,
  );
  assert(row, "an aggregate has one row");
  return row;
}

/** Selects one TenantUsage. It is part of the statement that inserts a service with ample quota. */
export function selectTenantUsage(tenantId: string, growth: QuotaAmounts): SQL {
  const amounts = (prefix: "" | "existing_") =>
    sql`jsonb_build_object(${sql.join(
      dimensions.map(({ name, column }) => sql.raw(`'${name}', coalesce(u.${prefix}${column}, 0)`)),
      sql`, `,
    )})`;
  const max = sql.raw(
    [
      ...dimensions.map(({ name, column }) => `'${name}', t.${column}_max`),
      "'trashBytes', t.trash_bytes_max",
    ].join(", "),
  );
  const sums = sql.raw(
    dimensions
      .flatMap(({ column }) => [column, `existing_${column}`])
      .map((column) => `sum(p.${column}) as ${column}`)
      .join(", "),
  );
  return sql`
    select ${amounts("")} as intended, ${amounts("existing_")} as existing,
      coalesce(u.trash_bytes, 0)::float8 as "trashBytes", jsonb_build_object(${max}) as max,
      ${sql.join(
        dimensions.map((dimension) => ampleQuotaSql(dimension, growth)),
        sql` and `,
      )}
        and (${growth.volumeBytes}::float8 <= 0 or coalesce(u.trash_bytes, 0) <= t.trash_bytes_max) as "hasAmpleQuota"
    from tenants t left join lateral (
      select ${sums}, sum(p.trash_bytes) as trash_bytes from tenant_uses p where p.tenant_id = t.id
    ) u on true
    where t.id = ${tenantId}`;
}

function ampleQuotaSql({ name, column }: (typeof dimensions)[number], growth: QuotaAmounts): SQL {
  const [max, added] = [sql.raw(`t.${column}_max`), sql`${growth[name]}::float8`];
  const used = sql.raw(`greatest(u.${column}, u.existing_${column}, 0)`);
  return sql`(${added} <= 0 or (${added} * 1000 <= ${max} and (${used} + ${added}) * 1.25 <= ${max}))`;
}
