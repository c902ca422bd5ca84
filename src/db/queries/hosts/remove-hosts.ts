import { eq, sql } from "drizzle-orm";
import type { HostState } from "../../../contracts/api/hosts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { anyOf, queryRows, readByKey, secondsAgo } from "../runtime/query.ts";

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
 * volumes, which are lost. It records the credentials, so that the agent learns of the deletion.
 */
export async function deleteHostRow(q: Queryable, hostId: string): Promise<DeletedVolumeRow[]> {
  return queryRows(
    q,
    sql`with lost as (
          delete from volumes where host_id = ${hostId} returning id, tenant_id, set_id
        ), deleted as (
          delete from hosts where id = ${hostId} returning id, credential_hash, next_credential_hash, agent->>'machineId' as machine_id
        ), recorded as (
          insert into deleted_hosts (host_id, credential_hash, next_credential_hash, machine_id)
            select id, credential_hash, next_credential_hash, machine_id from deleted
          on conflict do nothing
        )
        select id, tenant_id as "tenantId", set_id as "setId" from lost order by id`,
  );
}

/** True if Berth has deleted this host, or the host with this credential. */
export async function isHostDeleted(
  q: Queryable,
  by: { hostId: string } | { credentialHash: string },
): Promise<boolean> {
  const rows = await readByKey<unknown>(
    q,
    sql`select 1 from deleted_hosts where ${"hostId" in by ? sql`host_id = ${by.hostId}` : sql`${by.credentialHash} in (credential_hash, next_credential_hash)`}`,
  );
  return rows.length > 0;
}

/** Lists the deleted hosts that a machine was, the newest first. (Index deleted_hosts_machine.) */
export async function listDeletedHosts(
  q: Queryable,
  machineId: string,
  limit: number,
): Promise<string[]> {
  const rows = await readByKey<{ id: string }>(
    q,
    sql`select host_id as id from deleted_hosts where machine_id = ${machineId}
        order by deleted_at desc, host_id limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/**
 * Returns those of the hosts that Berth has deleted, and that are not the machine of this host as
 * far as Berth knows. Its agent adopts the volumes of the other ones without an order.
 */
export async function findDeletedOnOtherMachines(
  q: Queryable,
  hostId: string,
  otherHostIds: readonly string[],
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select host_id as id from deleted_hosts where host_id = ${anyOf(otherHostIds)} and machine_id is distinct from
          (select agent->>'machineId' from hosts where id = ${hostId}) order by host_id`,
  );
  return rows.map(({ id }) => id);
}

/** Records that a deleted host was this machine. False if Berth has deleted no such host. */
export async function bindDeletedHost(
  q: Queryable,
  deletedHostId: string,
  machineId: string,
): Promise<boolean> {
  const rows = await queryRows<unknown>(
    q,
    sql`update deleted_hosts set machine_id = ${machineId} where host_id = ${deletedHostId} returning 1`,
  );
  return rows.length > 0;
}

/** Deletes at most `limit` old records of deleted hosts. (Index deleted_hosts_deleted.) */
export async function deleteOldHostRecords(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await queryRows<unknown>(
    q,
    sql`delete from deleted_hosts where host_id in (
          select host_id from deleted_hosts where deleted_at < ${secondsAgo(ageSeconds)} order by deleted_at limit ${limit}
        ) returning host_id`,
  );
  return rows.length;
}
