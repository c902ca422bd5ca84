import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rowsOf } from "../runtime/query.ts";

/** The services of the sets that are booked on a host, in the order in which they are to be locked. */
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
  /** It takes no sets: cordoned or draining. */
  closed: boolean;
}

/** Locks a host that is to be deleted, after the services of its sets. */
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

/** What a locked host has: its sets, locked, and how many volumes it has spoken of. */
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

/** Removes a locked host on which no set is booked any more, with what is known of its volumes; each is told to be lost. */
export async function deleteHostRow(q: Queryable, hostId: string): Promise<void> {
  await q.execute(sql`
    with forgotten as (
      delete from volumes where host_id = ${hostId} returning id, tenant_id, set_id
    ), told as (
      insert into events (kind, tenant_id, set_id, host_id, text, data)
      select 'volume-lost', tenant_id, set_id, ${hostId}, 'the host of the volume was deleted', jsonb_build_object('volume', id)
      from forgotten
    )
    delete from hosts where id = ${hostId}`);
}
