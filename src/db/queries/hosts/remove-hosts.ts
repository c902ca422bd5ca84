import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rowsOf } from "../runtime/query.ts";

/** Lists the services with sets on a host, in the lock order. */
export async function listServicesOnHost(q: Queryable, hostId: string): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`select distinct service_id as id from sets where host_id = ${hostId} order by id`,
  );
  return rows.map((row) => row.id);
}

export interface RemovableHost {
  name: string;
  state: "ready" | "unhealthy" | "lost";
  /** The host accepts no sets, as it is cordoned or draining. */
  closed: boolean;
}

/** Locks a host for its deletion. The caller has locked the services of its sets. */
export async function lockRemovableHost(
  q: Queryable,
  hostId: string,
): Promise<RemovableHost | undefined> {
  const rows = await rowsOf<RemovableHost>(
    q,
    sql`select name, state, (cordoned or draining) as closed from hosts where id = ${hostId} for update`,
  );
  return rows[0];
}

export interface HostContent {
  sets: {
    id: string;
    tenantId: string;
    serviceId: string;
    desired: "running" | "stopped" | "deleted";
  }[];
  volumes: number;
}

/** Locks the sets of a locked host, and counts its volumes. */
export async function lockHostContent(q: Queryable, hostId: string): Promise<HostContent> {
  const [sets, volumes] = await Promise.all([
    rowsOf<HostContent["sets"][number]>(
      q,
      sql`select id, tenant_id as "tenantId", service_id as "serviceId", desired from sets
          where host_id = ${hostId} order by id for update`,
    ),
    rowsOf<{ count: number }>(
      q,
      sql`select count(*)::int as count from volumes where host_id = ${hostId}`,
    ),
  ]);
  return { sets, volumes: volumes[0]?.count ?? 0 };
}

export interface DeletedVolumeRow {
  id: string;
  tenantId: string;
  setId: string | null;
}

/**
 * Deletes a locked host on which no set is booked, and the rows of its volumes. Returns those
 * volumes, which are lost.
 */
export async function deleteHostRow(q: Queryable, hostId: string): Promise<DeletedVolumeRow[]> {
  return rowsOf(
    q,
    sql`with lost as (
          delete from volumes where host_id = ${hostId} returning id, tenant_id, set_id
        ), deleted as (
          delete from hosts where id = ${hostId}
        )
        select id, tenant_id as "tenantId", set_id as "setId" from lost order by id`,
  );
}
