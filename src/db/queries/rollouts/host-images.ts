import { sql } from "drizzle-orm";
import {
  type Prefetch,
  type Prefetched,
  PREFETCHES_PER_SYNC_MAX,
} from "../../../contracts/agent-protocol/prefetch.ts";
import type { HostImageState, ImagePurpose } from "../../../contracts/api/rollouts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/** The agent pulls images in advance. A host without it gets them with its sets. */
const PREFETCH_FEATURE = "prefetch";

/** Lists those of the hosts whose agents pull images in advance. */
export async function listPrefetchingHosts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<Set<string>> {
  if (hostIds.length === 0) return new Set();
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select id from hosts where id = ${anyOf(hostIds)} and capabilities->'features' ? ${PREFETCH_FEATURE}`,
  );
  return new Set(rows.map(({ id }) => id));
}

export interface HostImageRow {
  hostId: string;
  reference: string;
  state: HostImageState;
  isPermanent: boolean;
  requestedAtMs: number;
}

/** Lists the images that a rollout has requested on these hosts. */
export async function listHostImages(
  q: Queryable,
  rolloutId: string,
  hostIds: readonly string[],
): Promise<HostImageRow[]> {
  if (hostIds.length === 0) return [];
  return queryRows(
    q,
    sql`select host_id as "hostId", reference, state, is_permanent as "isPermanent",
          (extract(epoch from requested_at) * 1000)::float8 as "requestedAtMs"
        from host_images where rollout_id = ${rolloutId} and host_id = ${anyOf(hostIds)} and purpose = 'pull'`,
  );
}

export interface NewHostImage {
  hostId: string;
  reference: string;
  purpose: ImagePurpose;
}

/**
 * Requests images on hosts that the caller has locked. Each host gets a new generation, so that its
 * next answer names them.
 */
export async function insertHostImages(
  q: Queryable,
  { rolloutId, tenantId }: { rolloutId: string; tenantId: string },
  images: readonly NewHostImage[],
): Promise<void> {
  if (images.length === 0) return;
  await q.execute(
    sql`with added as (
          insert into host_images (rollout_id, host_id, reference, tenant_id, purpose, state)
          select ${rolloutId}, i."hostId", i.reference, ${tenantId}, i.purpose, case i.purpose when 'pull' then 'requested' else 'pulled' end
          from json_to_recordset(${JSON.stringify(images)}::json) as i("hostId" text, reference text, purpose text)
          on conflict (rollout_id, host_id, reference) do nothing returning host_id
        )
        update hosts set generation = generation + 1 where id in (select host_id from added)`,
  );
}

/** Deletes the images of a rollout that has ended. The next answers to its hosts omit them. */
export async function deleteHostImages(q: Queryable, rolloutId: string): Promise<void> {
  await q.execute(sql`delete from host_images where rollout_id = ${rolloutId}`);
}

/**
 * Lists the images that a host pulls in advance or retains, those to pull first. Returns undefined
 * for a host whose agent does not know such a list.
 */
export async function findPrefetches(
  q: Queryable,
  hostId: string,
): Promise<Prefetch[] | undefined> {
  const rows = await queryRows<{ images: Prefetch[] }>(
    q,
    sql`select coalesce((select json_agg(json_build_object('reference', i.reference, 'tenant', i.tenant, 'purpose', i.purpose)
            order by i.purpose, i.reference, i.tenant)
          from (select i.reference, t.name as tenant, min(i.purpose) as purpose from host_images i join tenants t on t.id = i.tenant_id
            where i.host_id = h.id group by i.reference, t.name order by 3, 1, 2 limit ${PREFETCHES_PER_SYNC_MAX}) i), '[]') as images
        from hosts h where h.id = ${hostId} and h.capabilities->'features' ? ${PREFETCH_FEATURE}`,
  );
  return rows[0]?.images;
}

/**
 * Stores the outcomes of pulls that a host reports. Returns the services whose rollouts wait for
 * them. The caller has locked the host.
 */
export async function storePrefetched(
  q: Queryable,
  hostId: string,
  prefetched: readonly Prefetched[],
): Promise<string[]> {
  if (prefetched.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with stored as (
          update host_images i set state = p.state, digest = p.digest, image_id = p."imageId", reason = p.reason,
            is_permanent = coalesce(p."isPermanent", false), reported_at = now()
          from json_to_recordset(${JSON.stringify(prefetched)}::json) as p(reference text, tenant text, state text, digest text,
            "imageId" text, "isPermanent" boolean, reason jsonb)
          join tenants t on t.name = p.tenant
          where i.host_id = ${hostId} and i.reference = p.reference and i.tenant_id = t.id and i.purpose = 'pull'
            and (i.state, i.is_permanent) is distinct from (p.state, coalesce(p."isPermanent", false))
          returning i.rollout_id
        )
        select distinct r.service_id as id from stored join rollouts r on r.id = stored.rollout_id`,
  );
  return rows.map(({ id }) => id);
}
