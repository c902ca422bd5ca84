import { eq, sql } from "drizzle-orm";
import type { HostState } from "../../../contracts/api/hosts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/** Lists the services with sets on a host, in the lock order; at most `limit`. */
export async function listServicesOnHost(
  q: Queryable,
  hostId: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct service_id as id from sets where host_id = ${hostId} order by id limit ${limit}`,
  );
  return rows.map((row) => row.id);
}

export interface RemovableHost {
  name: string;
  state: HostState;
  /** The host accepts no sets, because it is cordoned or draining. */
  closed: boolean;
}

/** Locks a host for its deletion. The caller has locked the services of its sets. */
export async function lockRemovableHost(
  q: Queryable,
  hostId: string,
): Promise<RemovableHost | undefined> {
  const rows = await q
    .select({
      name: hosts.name,
      state: hosts.state,
      closed: sql<boolean>`${hosts.cordoned} or ${hosts.draining}`,
    })
    .from(hosts)
    .where(eq(hosts.id, hostId))
    .for("update");
  return rows[0];
}

export interface HostContent {
  sets: {
    id: string;
    tenantId: string;
    serviceId: string;
    desired: "running" | "stopped" | "deleted";
  }[];
  /** The number of all sets on the host. */
  setsTotal: number;
  volumes: number;
}

/** Locks the sets of these services on a locked host, and counts all its sets and volumes. */
export async function lockHostContent(
  q: Queryable,
  hostId: string,
  serviceIds: readonly string[],
): Promise<HostContent> {
  const [sets, totals] = await Promise.all([
    queryRows<HostContent["sets"][number]>(
      q,
      sql`select id, tenant_id as "tenantId", service_id as "serviceId", desired from sets
          where host_id = ${hostId} and service_id = ${anyOf(serviceIds)} order by id for no key update`,
    ),
    queryRows<{ sets: number; volumes: number }>(
      q,
      sql`select (select count(*) from sets where host_id = ${hostId})::int as sets,
            (select count(*) from volumes where host_id = ${hostId})::int as volumes`,
    ),
  ]);
  return { sets, setsTotal: totals[0]?.sets ?? 0, volumes: totals[0]?.volumes ?? 0 };
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
  return queryRows(
    q,
    sql`with lost as (
          delete from volumes where host_id = ${hostId} returning id, tenant_id, set_id
        ), deleted as (
          delete from hosts where id = ${hostId}
        )
        select id, tenant_id as "tenantId", set_id as "setId" from lost order by id`,
  );
}
