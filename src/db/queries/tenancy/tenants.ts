import { type SQL, sql } from "drizzle-orm";
import type { CreateTenant, Tenant } from "../../../contracts/api/tenancy.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, rowsOf } from "../runtime/query.ts";

type TenantRow = Omit<Tenant, "createdAt"> & { createdAt: string | Date };

const tenantColumns = sql`id, name, generation::float8 as generation, jsonb_build_object('setsMax', sets_max,
  'cpuMillisMax', cpu_millis_max, 'memoryBytesMax', memory_bytes_max, 'volumeBytesMax', volume_bytes_max,
  'rootfsBytesMax', rootfs_bytes_max, 'trashBytesMax', trash_bytes_max) as quota, created_at as "createdAt"`;

function insertion(id: string, { name, quota }: CreateTenant): SQL {
  return sql`
    insert into tenants (id, name, sets_max, cpu_millis_max, memory_bytes_max, volume_bytes_max, rootfs_bytes_max, trash_bytes_max)
    values (${id}, ${name}, ${quota.setsMax}, ${quota.cpuMillisMax}, ${quota.memoryBytesMax}, ${quota.volumeBytesMax},
      ${quota.rootfsBytesMax}, ${quota.trashBytesMax})`;
}

/** Throws already-exists (tenants_name_unique). */
export async function insertTenant(
  q: Queryable,
  id: string,
  tenant: CreateTenant,
): Promise<Tenant | undefined> {
  const rows = await rowsOf<TenantRow>(q, sql`${insertion(id, tenant)} returning ${tenantColumns}`);
  return rows.map(toTenant)[0];
}

/** Inserts a tenant, unless one of this name exists. */
export async function ensureTenant(q: Queryable, id: string, tenant: CreateTenant): Promise<void> {
  await q.execute(sql`${insertion(id, tenant)} on conflict (name) do nothing`);
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
  return { ...row, createdAt: isoTime(row.createdAt) };
}
