import { renderEventText } from "../../../contracts/api/event-texts.ts";
import { type SQL, sql } from "drizzle-orm";
import type { JobRequest } from "../../../contracts/jobs.ts";
import {
  type AutoscaleSpec,
  type DisruptionBudget,
  disruptionBudgetSchema,
  type HostLostPolicy,
  type PlacementSpec,
} from "../../../contracts/api/services.ts";
import { type SetTemplate, templateWithSize } from "../../../contracts/api/set-template.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { outboxRows } from "../runtime/outbox.ts";
import { anyOf, isoTime, rowsOf, rowsOfWrite } from "../runtime/query.ts";
import { assert } from "../../../lib/assert.ts";
import type { SetSize } from "./resizes.ts";
import { isReplica } from "../operations/operations.ts";
import { type QuotaAmounts, tenantUse } from "../tenancy/tenant-use.ts";

/** A service as the write path needs it. */
export interface ServiceRow {
  id: string;
  tenantId: string;
  name: string;
  generation: number;
  /** The current revision: new sets have it. */
  revision: number;
  /** The revision that people want; the current one unless a rollout is due. */
  targetRevision: number;
  /** The size of new sets. */
  size: SetSize;
  /** The root file system of new sets; a resize does not change it. */
  rootfsBytes: number;
  replicas: number;
  desiredReplicas: number;
  priority: number;
  placement: PlacementSpec;
  onHostLost: HostLostPolicy;
  autoscale: AutoscaleSpec | null;
  disruption: DisruptionBudget;
  deleting: boolean;
}

/** The previous release stores a newer revision as the current one only. */
const targetRevision = sql`greatest(revision, coalesce(target_revision, 0))`;

const defaultBudget = JSON.stringify(disruptionBudgetSchema.parse({}));
const disruptionOf = sql`coalesce(disruption, ${defaultBudget}::jsonb)`;

const serviceColumns = sql`id, tenant_id as "tenantId", name, generation::float8 as generation, revision,
  ${targetRevision} as "targetRevision", json_build_object('cpuMillis', set_cpu_millis, 'memoryBytes', set_memory_bytes,
    'volumeBytes', set_volume_bytes) as size, set_rootfs_bytes::float8 as "rootfsBytes", ${disruptionOf} as disruption, replicas,
  desired_replicas as "desiredReplicas", priority, placement, on_host_lost as "onHostLost", autoscale, deleting`;

/**
 * The live service of this name, locked until the transaction ends: the first lock of every change
 * of a service.
 */
export function lockServiceByName(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<ServiceRow | undefined> {
  return selectService(q, isNamed(tenantId, name), sql`for update`);
}

/** Finds the live service of this name without a lock, for reads. */
export function findServiceByName(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<ServiceRow | undefined> {
  return selectService(q, isNamed(tenantId, name));
}

/** Locks a service by its id, as lockServiceByName does. Undefined: it is deleted. */
export function lockServiceById(q: Queryable, serviceId: string): Promise<ServiceRow | undefined> {
  return selectService(q, sql`id = ${serviceId}`, sql`for update`);
}

/** Locks a service, or skips it (undefined) while another transaction has it locked. */
export function claimServiceById(q: Queryable, serviceId: string): Promise<ServiceRow | undefined> {
  return selectService(q, sql`id = ${serviceId}`, sql`for update skip locked`);
}

function isNamed(tenantId: string, name: string): SQL {
  return sql`tenant_id = ${tenantId} and name = ${name}`;
}

async function selectService(
  q: Queryable,
  condition: SQL,
  lock: SQL = sql``,
): Promise<ServiceRow | undefined> {
  const rows = await rowsOf<ServiceRow>(
    q,
    sql`select ${serviceColumns} from services where ${condition} and deleted_at is null ${lock}`,
  );
  return rows[0];
}

/** Locks several services in the order of their ids, and leaves out deleted ones. */
export async function lockServicesById(
  q: Queryable,
  serviceIds: readonly string[],
): Promise<ServiceRow[]> {
  if (serviceIds.length === 0) return [];
  return rowsOf(
    q,
    sql`select ${serviceColumns} from services
        where id = ${anyOf(serviceIds)} and deleted_at is null
        order by id for update`,
  );
}

export interface NewService extends Omit<
  ServiceRow,
  "generation" | "revision" | "targetRevision" | "size" | "rootfsBytes" | "deleting"
> {
  template: SetTemplate;
  /** The ids of its pending sets. */
  setIds: readonly string[];
  /** The jobs that place its sets. */
  jobs: readonly JobRequest[];
}

export interface StoredService {
  tenant: string;
  createdAt: string;
  /** The outbox rows of its jobs, in their order. */
  outboxIds: number[];
}

/**
 * Inserts a service with its first revision, its pending sets, its event and its jobs. It is one
 * statement, so that each service of a burst costs one round trip. Throws already-exists
 * (services_name_unique).
 *
 * With `farFromQuota` it inserts nothing if the tenant is near its quota, if the caller must check
 * grants, or if the name is taken. It then returns undefined instead of throwing, so that the
 * transaction around it continues.
 */
export async function insertService(
  q: Queryable,
  service: NewService,
  options: { farFromQuota?: QuotaAmounts },
): Promise<StoredService | undefined> {
  const { tenantId, template } = service;
  const created = { service: service.name, replicas: service.replicas };
  const { farFromQuota } = options;
  const json = (value: unknown) => (value === null ? null : JSON.stringify(value));
  const admitted = farFromQuota
    ? sql`from (${tenantUse(tenantId, farFromQuota)}) u where u."isFar" and ${isPlainlyGranted(service)}
          on conflict (tenant_id, name) where deleted_at is null do nothing`
    : sql``;
  const rows = await rowsOfWrite<Omit<StoredService, "createdAt"> & { createdAt: string | Date }>(
    q,
    sql`with service as (
          insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost,
            autoscale, disruption, set_cpu_millis, set_memory_bytes, set_volume_bytes, set_rootfs_bytes)
          select ${service.id}, ${tenantId}, ${service.name}, ${service.replicas}::int, ${service.desiredReplicas}::int,
            ${service.priority}::int, ${json(service.placement)}::jsonb, ${service.onHostLost},
            ${json(service.autoscale)}::jsonb, ${json(service.disruption)}::jsonb, ${template.cpuMillis}::bigint, ${template.memoryBytes}::bigint,
            ${template.volume?.sizeBytes ?? 0}::bigint, ${template.rootfsBytes}::bigint
          ${admitted}
          returning id, priority, created_at
        ), first as (
          insert into revisions (service_id, number, template)
          select id, 1, ${json(template)}::jsonb from service
        ), added as (
          insert into sets (id, tenant_id, service_id, revision, priority, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes)
          select value, ${tenantId}, service.id, 1, priority, ${template.cpuMillis}::bigint, ${template.memoryBytes}::bigint,
            ${template.volume?.sizeBytes ?? 0}::bigint, ${template.rootfsBytes}::bigint
          from service, json_array_elements_text(${json(service.setIds)}::json)
        ), appended as (
          insert into events (kind, text, tenant_id, service_id, generation, data)
          select 'service-created', ${renderEventText("service-created", created)}::text, ${tenantId}, id, 1, ${json(created)}::jsonb from service
        ), enqueued as (
          insert into outbox (name, job_id, payload)
          select o.name, o.job_id, o.payload
          from service, json_to_recordset(${json(outboxRows(service.jobs))}::json) as o(name text, job_id text, payload jsonb)
          returning id
        )
        select tenants.name as tenant, service.created_at as "createdAt", (select coalesce(json_agg(id order by id), '[]') from enqueued) as "outboxIds"
        from service, tenants where tenants.id = ${tenantId}`,
  );
  const row = rows[0];
  if (!row) return undefined;
  return { ...row, createdAt: isoTime(row.createdAt) };
}

/**
 * The tenant's grants include the pool and the priority of a service that has no tolerations and
 * no host labels. Those of other services are checked by the caller.
 */
function isPlainlyGranted({ tenantId, placement, priority }: NewService): SQL {
  if (placement.tolerations.length > 0 || Object.keys(placement.hostLabels).length > 0) {
    return sql`false`;
  }
  return sql`exists (select 1 from tenants g where g.id = ${tenantId} and (g.grants->>'priorityMax')::int >= ${priority}::int
    and (g.grants->'pools' @> '["*"]' or g.grants->'pools' @> jsonb_build_array(${placement.pool}::text)))`;
}

/** Writes what changed of a locked service and bumps its generation. Gives the new one. */
export async function updateService(q: Queryable, service: ServiceRow): Promise<number> {
  const rows = await rowsOf<{ generation: number }>(
    q,
    sql`update services set generation = generation + 1, revision = ${service.revision},
          target_revision = nullif(${service.targetRevision}::int, ${service.revision}::int), replicas = ${service.replicas},
          set_cpu_millis = ${service.size.cpuMillis}, set_memory_bytes = ${service.size.memoryBytes},
          set_volume_bytes = ${service.size.volumeBytes}, set_rootfs_bytes = ${service.rootfsBytes}, disruption = ${JSON.stringify(service.disruption)}::jsonb,
          desired_replicas = ${service.desiredReplicas}, priority = ${service.priority},
          placement = ${JSON.stringify(service.placement)}::jsonb, on_host_lost = ${service.onHostLost},
          autoscale = ${service.autoscale === null ? null : JSON.stringify(service.autoscale)}::jsonb,
          deleting = ${service.deleting}, updated_at = now()
        where id = ${service.id} returning generation::float8 as generation`,
  );
  return rows[0]?.generation ?? service.generation;
}

/**
 * Inserts the next revision of a service, whose row the caller has locked. Gives its number.
 * Numbers grow, also when a target revision was given up.
 */
export async function insertRevision(
  q: Queryable,
  serviceId: string,
  template: SetTemplate,
): Promise<number> {
  const rows = await rowsOf<{ number: number }>(
    q,
    sql`insert into revisions (service_id, number, template)
        select ${serviceId}, (select max(number) from revisions where service_id = ${serviceId}) + 1, ${JSON.stringify(template)}::jsonb
        returning number`,
  );
  const [row] = rows;
  assert(row, "an insert of one row gives a row");
  return row.number;
}

/** The template of one of a service's revisions, with the size of the service's new sets. */
export async function getSizedTemplate(
  q: Queryable,
  service: Pick<ServiceRow, "id" | "revision" | "size">,
  revision = service.revision,
): Promise<SetTemplate> {
  const template = await findTemplate(q, service.id, revision);
  assert(template, "the current and the target revision of a service exist");
  return templateWithSize(template, service.size);
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

/**
 * Deleted services of which nothing is left any more are closed. Gives those closed; at most
 * `limit`.
 */
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
        left join (select s.service_id, count(*)::int as live from sets s where ${isReplica} group by s.service_id) c on c.service_id = s.id
        where s.deleted_at is null and coalesce(c.live, 0) <> case when s.deleting then 0 else s.desired_replicas end
        order by s.id limit ${limit}`,
  );
  return rows.map((row) => row.id);
}
