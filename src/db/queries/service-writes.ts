import { sql } from "drizzle-orm";
import type { AutoscaleSpec, PlacementSpec } from "../../contracts/services.ts";
import type { SetTemplate } from "../../contracts/set-template.ts";
import type { Queryable } from "../client.ts";
import { rowsOf } from "./rows.ts";

/** A service as the write path needs it. */
export interface ServiceRow {
  id: string;
  tenantId: string;
  name: string;
  generation: number;
  revision: number;
  replicas: number;
  desiredReplicas: number;
  priority: number;
  placement: PlacementSpec;
  onHostLost: "replace" | "wait";
  autoscale: AutoscaleSpec | null;
  deleting: boolean;
}

const serviceColumns = sql`id, tenant_id as "tenantId", name, generation::float8 as generation, revision, replicas,
  desired_replicas as "desiredReplicas", priority, placement, on_host_lost as "onHostLost", autoscale, deleting`;

/** The live service of this name, locked until the transaction ends: the first lock of every change of a service. */
export async function lockServiceByName(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<ServiceRow | undefined> {
  const rows = await rowsOf<ServiceRow>(
    q,
    sql`select ${serviceColumns} from services
        where tenant_id = ${tenantId} and name = ${name} and deleted_at is null for update`,
  );
  return rows[0];
}

/** The same by id; undefined when it is gone. */
export async function lockServiceById(
  q: Queryable,
  serviceId: string,
): Promise<ServiceRow | undefined> {
  const rows = await rowsOf<ServiceRow>(
    q,
    sql`select ${serviceColumns} from services where id = ${serviceId} and deleted_at is null for update`,
  );
  return rows[0];
}

export interface NewService extends Omit<ServiceRow, "generation" | "revision" | "deleting"> {
  template: SetTemplate;
}

/** Inserts a service and its first revision. Throws already-exists (services_name_unique). */
export async function insertService(q: Queryable, service: NewService): Promise<void> {
  await q.execute(sql`
    with service as (
      insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost,
        autoscale, set_cpu_millis, set_memory_bytes)
      values (${service.id}, ${service.tenantId}, ${service.name}, ${service.replicas}, ${service.desiredReplicas},
        ${service.priority}, ${JSON.stringify(service.placement)}::jsonb, ${service.onHostLost},
        ${service.autoscale === null ? null : JSON.stringify(service.autoscale)}::jsonb,
        ${service.template.cpuMillis}, ${service.template.memoryBytes})
      returning id
    )
    insert into revisions (service_id, number, template)
    select id, 1, ${JSON.stringify(service.template)}::jsonb from service`);
}

/** Writes what changed of a locked service and bumps its generation. Gives the new one. */
export async function updateService(q: Queryable, service: ServiceRow): Promise<number> {
  const rows = await rowsOf<{ generation: number }>(
    q,
    sql`update services set generation = generation + 1, revision = ${service.revision}, replicas = ${service.replicas},
          desired_replicas = ${service.desiredReplicas}, priority = ${service.priority},
          placement = ${JSON.stringify(service.placement)}::jsonb, on_host_lost = ${service.onHostLost},
          autoscale = ${service.autoscale === null ? null : JSON.stringify(service.autoscale)}::jsonb,
          deleting = ${service.deleting}, updated_at = now()
        where id = ${service.id} returning generation::float8 as generation`,
  );
  return rows[0]?.generation ?? service.generation;
}

/** Adds a revision; what a set of it asks for is kept with the service, whose row the caller has locked. */
export async function insertRevision(
  q: Queryable,
  serviceId: string,
  number: number,
  template: SetTemplate,
): Promise<void> {
  await q.execute(sql`
    with asked as (
      update services set set_cpu_millis = ${template.cpuMillis}, set_memory_bytes = ${template.memoryBytes}
      where id = ${serviceId}
    )
    insert into revisions (service_id, number, template)
    values (${serviceId}, ${number}, ${JSON.stringify(template)}::jsonb)`);
}

export async function findTemplate(
  q: Queryable,
  serviceId: string,
  revision: number,
): Promise<SetTemplate | undefined> {
  const rows = await rowsOf<{ template: SetTemplate }>(
    q,
    sql`select template from revisions where service_id = ${serviceId} and number = ${revision}`,
  );
  return rows[0]?.template;
}

/** Deleted services of which nothing is left any more are closed. Gives those closed; at most `limit`. */
export async function closeDeletedServices(
  q: Queryable,
  limit: number,
): Promise<{ id: string; tenantId: string; name: string }[]> {
  return rowsOf(
    q,
    sql`update services set deleted_at = now(), updated_at = now() where id in (
          select id from services s where deleting and deleted_at is null
            and not exists (select 1 from sets where service_id = s.id and deleted_at is null)
          order by id limit ${limit} for update skip locked)
        returning id, tenant_id as "tenantId", name`,
  );
}

/** Services whose number of live sets is not what they want; a bounded batch for the sweep. */
export async function listUnbalancedServices(q: Queryable, limit: number): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`select s.id from services s
        left join (select service_id, count(*)::int as live from sets
                   where deleted_at is null and desired <> 'deleted' group by service_id) c on c.service_id = s.id
        where s.deleted_at is null and coalesce(c.live, 0) <> case when s.deleting then 0 else s.desired_replicas end
        order by s.id limit ${limit}`,
  );
  return rows.map((row) => row.id);
}

/** What a tenant's services ask for together, and what they may. */
export interface TenantUse {
  sets: number;
  cpuMillis: number;
  memoryBytes: number;
  setsMax: number;
  cpuMillisMax: number;
  memoryBytesMax: number;
}

/** Makes additions of one tenant wait for each other until their transactions end. */
export async function lockTenant(q: Queryable, tenantId: string): Promise<void> {
  await q.execute(sql`select id from tenants where id = ${tenantId} for no key update`);
}

export async function readTenantUse(q: Queryable, tenantId: string): Promise<TenantUse> {
  const rows = await rowsOf<TenantUse>(
    q,
    sql`select t.sets_max::float8 as "setsMax", t.cpu_millis_max::float8 as "cpuMillisMax",
          t.memory_bytes_max::float8 as "memoryBytesMax", coalesce(u.sets, 0)::float8 as sets,
          coalesce(u.cpu, 0)::float8 as "cpuMillis", coalesce(u.memory, 0)::float8 as "memoryBytes"
        from tenants t left join lateral (
          select sum(s.desired_replicas) as sets, sum(s.desired_replicas * s.set_cpu_millis) as cpu,
            sum(s.desired_replicas * s.set_memory_bytes) as memory
          from services s
          where s.tenant_id = t.id and s.deleted_at is null and not s.deleting
        ) u on true
        where t.id = ${tenantId}`,
  );
  const row = rows[0];
  if (!row) throw new Error("the tenant of an authenticated caller does not exist");
  return row;
}
