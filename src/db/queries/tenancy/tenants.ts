import { type SQL, sql } from "drizzle-orm";
import type { PlacementSpec } from "../../../contracts/api/services.ts";
import type { CreateTenant, Grants, Tenant } from "../../../contracts/api/tenancy.ts";
import { notFound } from "../../../contracts/common/app-error.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, queryRows } from "../runtime/query.ts";

type TenantRow = Omit<Tenant, "createdAt"> & { createdAt: string | Date };

const tenantColumns = sql`id, name, generation::float8 as generation, jsonb_build_object('setsMax', sets_max,
  'cpuMillisMax', cpu_millis_max, 'memoryBytesMax', memory_bytes_max, 'volumeBytesMax', volume_bytes_max,
  'rootfsBytesMax', rootfs_bytes_max, 'trashBytesMax', trash_bytes_max) as quota, grants, created_at as "createdAt"`;

function insertion(id: string, { name, quota, grants }: CreateTenant): SQL {
  return sql`
    insert into tenants (id, name, sets_max, cpu_millis_max, memory_bytes_max, volume_bytes_max, rootfs_bytes_max, trash_bytes_max, grants)
    values (${id}, ${name}, ${quota.setsMax}, ${quota.cpuMillisMax}, ${quota.memoryBytesMax}, ${quota.volumeBytesMax},
      ${quota.rootfsBytesMax}, ${quota.trashBytesMax}, ${JSON.stringify(grants)}::jsonb)`;
}

/** Throws already-exists (tenants_name_unique). */
export async function insertTenant(
  q: Queryable,
  id: string,
  tenant: CreateTenant,
): Promise<Tenant | undefined> {
  const rows = await queryRows<TenantRow>(
    q,
    sql`${insertion(id, tenant)} returning ${tenantColumns}`,
  );
  return rows.map(toTenant)[0];
}

/** Inserts a tenant, unless one of this name exists. */
export async function ensureTenant(q: Queryable, id: string, tenant: CreateTenant): Promise<void> {
  await q.execute(sql`${insertion(id, tenant)} on conflict (name) do nothing`);
}

export async function findTenantByName(q: Queryable, name: string): Promise<Tenant | undefined> {
  const rows = await queryRows<TenantRow>(
    q,
    sql`select ${tenantColumns} from tenants where name = ${name}`,
  );
  return rows.map(toTenant)[0];
}

/** Lists those of the names that no tenant has, in their order and without duplicates. */
export async function listUnknownTenantNames(
  q: Queryable,
  names: readonly string[],
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(
    q,
    sql`select w.name from json_array_elements_text(${JSON.stringify([...new Set(names)])}::json) with ordinality as w(name, position)
        where not exists (select 1 from tenants t where t.name = w.name) order by w.position limit ${limit}`,
  );
  return rows.map(({ name }) => name);
}

/** Finds a tenant and locks its row until the transaction ends. */
export async function lockTenantByName(q: Queryable, name: string): Promise<Tenant | undefined> {
  const rows = await queryRows<TenantRow>(
    q,
    sql`select ${tenantColumns} from tenants where name = ${name} for no key update`,
  );
  return rows.map(toTenant)[0];
}

/** Stores the quota and the grants of a locked tenant, and increments its generation. */
export async function updateTenant(
  q: Queryable,
  { id, quota, grants }: Pick<Tenant, "id" | "quota" | "grants">,
): Promise<Tenant | undefined> {
  const rows = await queryRows<TenantRow>(
    q,
    sql`update tenants set generation = generation + 1, sets_max = ${quota.setsMax}, cpu_millis_max = ${quota.cpuMillisMax},
          memory_bytes_max = ${quota.memoryBytesMax}, volume_bytes_max = ${quota.volumeBytesMax},
          rootfs_bytes_max = ${quota.rootfsBytesMax}, trash_bytes_max = ${quota.trashBytesMax},
          grants = ${JSON.stringify(grants)}::jsonb
        where id = ${id} returning ${tenantColumns}`,
  );
  return rows.map(toTenant)[0];
}

/** Reads the grants of a tenant. Throws not-found. */
export async function getGrants(q: Queryable, tenantId: string): Promise<Grants> {
  const [row] = await queryRows<{ grants: Grants }>(
    q,
    sql`select grants from tenants where id = ${tenantId}`,
  );
  if (!row) throw notFound("tenant");
  return row.grants;
}

/** Lists the members of a tenant's services that need grants, by name, after `afterName`. */
export async function listServiceRequests(
  q: Queryable,
  tenantId: string,
  afterName: string,
  limit: number,
): Promise<{ name: string; priority: number; placement: PlacementSpec }[]> {
  return queryRows(
    q,
    sql`select name, priority, placement from services
        where tenant_id = ${tenantId} and name > ${afterName} and deleted_at is null and not deleting
        order by name limit ${limit}`,
  );
}

/** Lists tenants after `afterId`, the oldest first. */
export async function listTenants(
  q: Queryable,
  afterId: string | undefined,
  limit: number,
): Promise<Tenant[]> {
  const rows = await queryRows<TenantRow>(
    q,
    sql`select ${tenantColumns} from tenants where id > ${afterId ?? ""} order by id limit ${limit}`,
  );
  return rows.map(toTenant);
}

function toTenant(row: TenantRow): Tenant {
  return { ...row, createdAt: isoTime(row.createdAt) };
}
