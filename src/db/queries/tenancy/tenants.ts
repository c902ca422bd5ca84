import { and, eq, gt, isNull, not, sql } from "drizzle-orm";
import type { PlacementSpec } from "../../../contracts/api/placement-spec.ts";
import type { CreateTenant, Grants, Tenant } from "../../../contracts/api/tenancy.ts";
import { notFound } from "../../../contracts/common/app-error.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { services } from "../../schema/services.ts";
import { tenants } from "../../schema/tenancy.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { isoTime, queryRows } from "../runtime/query.ts";

const tenantColumns = {
  id: tenants.id,
  name: tenants.name,
  generation: tenants.generation,
  grants: tenants.grants,
  createdAt: tenants.createdAt,
  setsMax: tenants.setsMax,
  cpuMillisMax: tenants.cpuMillisMax,
  memoryBytesMax: tenants.memoryBytesMax,
  volumeBytesMax: tenants.volumeBytesMax,
  rootfsBytesMax: tenants.rootfsBytesMax,
  trashBytesMax: tenants.trashBytesMax,
};
type TenantRow = Pick<typeof tenants.$inferSelect, keyof typeof tenantColumns>;

/** Throws already-exists (tenants_name_unique). */
export async function insertTenant(
  q: Queryable,
  id: string,
  { name, quota, grants }: CreateTenant,
): Promise<Tenant | undefined> {
  const [row] = await queryRows<{ generation: number; createdAt: string | Date }>(
    q,
    sql`${insertInto(tenants, { id, name, grants, ...quota })}
        returning generation::float8 as generation, created_at as "createdAt"`,
  );
  return row && { id, name, quota, grants, ...row, createdAt: isoTime(row.createdAt) };
}

/** Inserts a tenant, unless one of this name exists. */
export async function ensureTenant(
  q: Queryable,
  id: string,
  { name, quota, grants }: CreateTenant,
): Promise<void> {
  const values = { id, name, grants, ...quota };
  await q.execute(sql`${insertInto(tenants, values)} on conflict (name) do nothing`);
}

export async function findTenantByName(q: Queryable, name: string): Promise<Tenant | undefined> {
  const rows = await q.select(tenantColumns).from(tenants).where(eq(tenants.name, name));
  return rows.map(toTenant)[0];
}

/** Finds a tenant and locks its row until the transaction ends. */
export async function lockTenantByName(q: Queryable, name: string): Promise<Tenant | undefined> {
  const rows = await q
    .select(tenantColumns)
    .from(tenants)
    .where(eq(tenants.name, name))
    .for("no key update");
  return rows.map(toTenant)[0];
}

/** Stores the quota and the grants of a locked tenant, and increments its generation. */
export async function updateTenant(
  q: Queryable,
  { id, quota, grants }: Pick<Tenant, "id" | "quota" | "grants">,
): Promise<Tenant | undefined> {
  const rows = await q
    .update(tenants)
    .set({ ...quota, grants, generation: sql`${tenants.generation} + 1` })
    .where(eq(tenants.id, id))
    .returning(tenantColumns);
  return rows.map(toTenant)[0];
}

/** Reads the grants of a tenant. Throws not-found. */
export async function getGrants(q: Queryable, tenantId: string): Promise<Grants> {
  const [row] = await q
    .select({ grants: tenants.grants })
    .from(tenants)
    .where(eq(tenants.id, tenantId));
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
  const { name, priority, placement } = services;
  return q
    .select({ name, priority, placement })
    .from(services)
    .where(
      and(
        eq(services.tenantId, tenantId),
        gt(name, afterName),
        isNull(services.deletedAt),
        not(services.deleting),
      ),
    )
    .orderBy(name)
    .limit(limit);
}

/** Lists tenants after `afterId`, the oldest first. */
export async function listTenants(
  q: Queryable,
  afterId: string | undefined,
  limit: number,
): Promise<Tenant[]> {
  const rows = await q
    .select(tenantColumns)
    .from(tenants)
    .where(gt(tenants.id, afterId ?? ""))
    .orderBy(tenants.id)
    .limit(limit);
  return rows.map(toTenant);
}

function toTenant({ id, name, generation, grants, createdAt, ...quota }: TenantRow): Tenant {
  return { id, name, generation, quota, grants, createdAt: createdAt.toISOString() };
}
