import { sql } from "drizzle-orm";
import type { CreateTenant, Tenant } from "../../../contracts/api/tenancy.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, rowsOf } from "../runtime/query.ts";

interface TenantRow {
  id: string;
  name: string;
  setsMax: number;
  cpuMillisMax: number;
  memoryBytesMax: number;
  createdAt: string | Date;
}

const tenantColumns = sql`id, name, sets_max::float8 as "setsMax", cpu_millis_max::float8 as "cpuMillisMax",
  memory_bytes_max::float8 as "memoryBytesMax", created_at as "createdAt"`;

/** Throws already-exists (tenants_name_unique). */
export async function insertTenant(
  q: Queryable,
  id: string,
  tenant: CreateTenant,
): Promise<Tenant | undefined> {
  const rows = await rowsOf<TenantRow>(
    q,
    sql`insert into tenants (id, name, sets_max, cpu_millis_max, memory_bytes_max)
        values (${id}, ${tenant.name}, ${tenant.quota.setsMax}, ${tenant.quota.cpuMillisMax}, ${tenant.quota.memoryBytesMax})
        returning ${tenantColumns}`,
  );
  return rows.map(toTenant)[0];
}

/** Inserts a tenant unless there is one of this name. */
export async function ensureTenant(q: Queryable, id: string, tenant: CreateTenant): Promise<void> {
  await q.execute(sql`
    insert into tenants (id, name, sets_max, cpu_millis_max, memory_bytes_max)
    values (${id}, ${tenant.name}, ${tenant.quota.setsMax}, ${tenant.quota.cpuMillisMax}, ${tenant.quota.memoryBytesMax})
    on conflict (name) do nothing`);
}

export async function findTenantByName(q: Queryable, name: string): Promise<Tenant | undefined> {
  const rows = await rowsOf<TenantRow>(
    q,
    sql`select ${tenantColumns} from tenants where name = ${name}`,
  );
  return rows.map(toTenant)[0];
}

/** Oldest first, after `afterId`. */
export async function listTenants(
  q: Queryable,
  afterId: string | undefined,
  limit: number,
): Promise<Tenant[]> {
  const rows = await rowsOf<TenantRow>(
    q,
    sql`select ${tenantColumns} from tenants where id > ${afterId ?? ""} order by id limit ${limit}`,
  );
  return rows.map(toTenant);
}

function toTenant(row: TenantRow): Tenant {
  return {
    id: row.id,
    name: row.name,
    quota: {
      setsMax: row.setsMax,
      cpuMillisMax: row.cpuMillisMax,
      memoryBytesMax: row.memoryBytesMax,
    },
    createdAt: isoTime(row.createdAt),
  };
}
