import { and, count, eq, gt, ne, sql } from "drizzle-orm";
import type { Registry } from "../../../contracts/api/registries.ts";
import { DOCKER_HUB } from "../../../contracts/common/image-registry.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { registryCredentials, tenants } from "../../schema/tenancy.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { queryRows, readByKey } from "../runtime/query.ts";

/** A credential as the database stores it, and the facts that its encryption is bound to. */
export interface SealedCredentialRow {
  id: string;
  tenantId: string;
  registry: string;
  username: string;
  keyId: string;
  ciphertext: string;
}

const sealedColumns = {
  id: registryCredentials.id,
  tenantId: registryCredentials.tenantId,
  registry: registryCredentials.registry,
  username: registryCredentials.username,
  keyId: registryCredentials.keyId,
  ciphertext: registryCredentials.ciphertext,
};

const isRegistryOf = (tenantId: string, registry: string) =>
  and(eq(registryCredentials.tenantId, tenantId), eq(registryCredentials.registry, registry));

function selectRegistries(q: Queryable) {
  const { id, registry, username, createdAt, updatedAt } = registryCredentials;
  return q
    .select({ id, tenant: tenants.name, registry, username, createdAt, updatedAt })
    .from(registryCredentials)
    .innerJoin(tenants, eq(tenants.id, registryCredentials.tenantId));
}

/**
 * Lists the registries of a tenant, or of all tenants, after `afterId`, the oldest first. The rows
 * have no secrets.
 */
export async function listRegistries(
  q: Queryable,
  tenantId: string | null,
  afterId: string | undefined,
  limit: number,
): Promise<Registry[]> {
  const isInScope = tenantId === null ? undefined : eq(registryCredentials.tenantId, tenantId);
  const rows = await selectRegistries(q)
    .where(and(gt(registryCredentials.id, afterId ?? ""), isInScope))
    .orderBy(registryCredentials.id)
    .limit(limit);
  return rows.map(toRegistry);
}

export async function findRegistryOf(
  q: Queryable,
  tenantId: string,
  registry: string,
): Promise<Registry | undefined> {
  const rows = await selectRegistries(q).where(isRegistryOf(tenantId, registry));
  return rows.map(toRegistry)[0];
}

/** Serializes changes of a tenant's credentials until the transaction ends. */
export async function lockCredentials(q: Queryable, tenantId: string): Promise<void> {
  await q
    .select({ id: tenants.id })
    .from(tenants)
    .where(eq(tenants.id, tenantId))
    .for("no key update");
}

export async function countCredentials(q: Queryable, tenantId: string): Promise<number> {
  const rows = await q
    .select({ total: count() })
    .from(registryCredentials)
    .where(eq(registryCredentials.tenantId, tenantId));
  return rows[0]?.total ?? 0;
}

export async function findSealedCredential(
  q: Queryable,
  tenantId: string,
  registry: string,
): Promise<SealedCredentialRow | undefined> {
  const rows = await q
    .select(sealedColumns)
    .from(registryCredentials)
    .where(isRegistryOf(tenantId, registry));
  return rows[0];
}

/** Inserts a credential, or replaces that of the same tenant and registry. */
export async function putCredential(q: Queryable, row: SealedCredentialRow): Promise<void> {
  await q.execute(
    sql`${insertInto(registryCredentials, row)}
        on conflict (tenant_id, registry) do update set username = excluded.username,
          key_id = excluded.key_id, ciphertext = excluded.ciphertext, updated_at = now()`,
  );
}

/** Returns whether the credential existed. */
export async function deleteCredential(
  q: Queryable,
  tenantId: string,
  registry: string,
): Promise<boolean> {
  const rows = await q
    .delete(registryCredentials)
    .where(isRegistryOf(tenantId, registry))
    .returning({ id: registryCredentials.id });
  return rows.length > 0;
}

/** Lists credentials after `afterId` whose key is not `keyId`. */
export async function listCredentialsOfOtherKeys(
  q: Queryable,
  keyId: string,
  afterId: string,
  limit: number,
): Promise<SealedCredentialRow[]> {
  return q
    .select(sealedColumns)
    .from(registryCredentials)
    .where(and(gt(registryCredentials.id, afterId), ne(registryCredentials.keyId, keyId)))
    .orderBy(registryCredentials.id)
    .limit(limit);
}

/** Replaces the ciphertext of a credential, unless it has changed meanwhile. */
export async function updateCiphertext(
  q: Queryable,
  before: Pick<SealedCredentialRow, "id" | "ciphertext">,
  sealed: Pick<SealedCredentialRow, "keyId" | "ciphertext">,
): Promise<void> {
  await q
    .update(registryCredentials)
    .set({ keyId: sealed.keyId, ciphertext: sealed.ciphertext })
    .where(
      and(
        eq(registryCredentials.id, before.id),
        eq(registryCredentials.ciphertext, before.ciphertext),
      ),
    );
}

export interface HostCredentialRow extends SealedCredentialRow {
  tenant: string;
  /**
   * The images of the tenant's sets that should run on the host, for Docker Hub only. Null for
   * another registry, which has one of them.
   */
  images: string[] | null;
}

/**
 * Lists the credentials for the images of the sets that should run on a host. For Docker Hub, whose
 * name most images omit, the caller must check the images.
 */
export async function listHostCredentials(
  q: Queryable,
  hostId: string,
  limit: number,
): Promise<HostCredentialRow[]> {
  return readByKey<HostCredentialRow>(
    q,
    sql`with used as (
          select distinct s.tenant_id, s.service_id, s.revision from sets s
          where s.host_id = ${hostId} and s.desired = 'running'
            and exists (select 1 from registry_credentials c where c.tenant_id = s.tenant_id)
        ), named as (
          select u.tenant_id, json_agg(distinct container->>'image') as images
          from used u join revisions r on r.service_id = u.service_id and r.number = u.revision
          cross join jsonb_array_elements(r.template->'containers') container
          group by u.tenant_id
        )
        select c.id, c.tenant_id as "tenantId", t.name as tenant, c.registry, c.username, c.key_id as "keyId", c.ciphertext,
          case when c.registry = ${DOCKER_HUB} then n.images end as images
        from named n join tenants t on t.id = n.tenant_id
        join registry_credentials c on c.tenant_id = n.tenant_id and (c.registry = ${DOCKER_HUB}
          or exists (select 1 from json_array_elements_text(n.images) image where starts_with(lower(image), c.registry || '/')))
        order by c.id limit ${limit}`,
  );
}

/** Lists the hosts on which sets of a tenant should run. */
export async function listHostsOfTenant(
  q: Queryable,
  tenantId: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ hostId: string }>(
    q,
    sql`select distinct host_id as "hostId" from sets
        where tenant_id = ${tenantId} and host_id is not null and desired = 'running'
        order by 1 limit ${limit}`,
  );
  return rows.map(({ hostId }) => hostId);
}

function toRegistry(row: Awaited<ReturnType<typeof selectRegistries>>[number]): Registry {
  return {
    ...row,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  };
}
