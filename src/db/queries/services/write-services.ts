import { renderEventText } from "../../../contracts/api/event-texts.ts";
import { and, count, eq, isNull, type SQL, sql } from "drizzle-orm";
import type { JobRequest } from "../../../contracts/jobs.ts";
import {
  type DisruptionBudget,
  disruptionBudgetSchema,
} from "../../../contracts/api/disruption-budget.ts";
import type { RolloutStrategySpec } from "../../../contracts/api/rollouts.ts";
import type { PlacementSpec } from "../../../contracts/api/placement-spec.ts";
import type { AutoscaleSpec, HostLostPolicy } from "../../../contracts/api/services.ts";
import { AppError } from "../../../contracts/common/app-error.ts";
import type { ServiceGatewayPort } from "../../../contracts/api/gateways.ts";
import { type SetTemplate, templateWithSize } from "../../../contracts/api/set-template.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { revisions, services } from "../../schema/services.ts";
import { sets } from "../../schema/sets.ts";
import { outboxRows } from "../runtime/outbox.ts";
import {
  anyOf,
  genericPlansFromHere,
  isLockTimeout,
  isoTime,
  queryRows,
  runWrite,
} from "../runtime/query.ts";
import { assert } from "../../../lib/assert.ts";
import type { SetSize } from "./resizes.ts";
import { replicaSetSql } from "../operations/operation-conditions.ts";
import { type QuotaAmounts, selectTenantUsage } from "../tenancy/tenant-usage.ts";

/** A service as changes read it. */
export interface ServiceRow {
  id: string;
  tenantId: string;
  name: string;
  generation: number;
  /** The current revision: new sets have it. */
  revision: number;
  /** The revision that users want; the current one unless a rollout is due. */
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
  /** How its rollouts proceed. Null for the default. */
  rollout: RolloutStrategySpec | null;
  gatewayPorts: readonly ServiceGatewayPort[];
  deleting: boolean;
}

/** The previous release stores a newer revision as the current one only. */
const targetRevision = sql`greatest(revision, coalesce(target_revision, 0))`;

const defaultBudget = JSON.stringify(disruptionBudgetSchema.parse({}));
const disruptionSql = sql`coalesce(disruption, ${defaultBudget}::jsonb)`;

const serviceColumns = sql`id, tenant_id as "tenantId", name, generation::float8 as generation, revision,
  ${targetRevision} as "targetRevision", json_build_object('cpuMillis', set_cpu_millis, 'memoryBytes', set_memory_bytes,
    'volumeBytes', set_volume_bytes) as size, set_rootfs_bytes::float8 as "rootfsBytes", ${disruptionSql} as disruption, replicas,
  desired_replicas as "desiredReplicas", priority, placement, on_host_lost as "onHostLost", autoscale, rollout,
  coalesce(gateway_ports, '[]') as "gatewayPorts", deleting`;

/**
 * Locks the live service of this name until the transaction ends. Every change of a service takes
 * this lock first.
 */
export function lockServiceByName(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<ServiceRow | undefined> {
  return selectService(q, namedServiceSql(tenantId, name), sql`for no key update`);
}

/** Finds the live service of this name without a lock, for reads. */
export function findServiceByName(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<ServiceRow | undefined> {
  return selectService(q, namedServiceSql(tenantId, name));
}

/** Counts the sets of a service that exist, except on lost hosts. */
export async function countRemainingSets(q: Queryable, serviceId: string): Promise<number> {
  const [counts] = await q
    .select({ sets: count() })
    .from(sets)
    .leftJoin(hosts, eq(hosts.id, sets.hostId))
    .where(
      and(
        eq(sets.serviceId, serviceId),
        isNull(sets.deletedAt),
        sql`${hosts.state} is distinct from 'lost'`,
      ),
    );
  return counts?.sets ?? 0;
}

/** Locks a service by its id. Returns undefined if the service is deleted. */
export function lockServiceById(q: Queryable, serviceId: string): Promise<ServiceRow | undefined> {
  return selectService(q, sql`id = ${serviceId}`, sql`for no key update`);
}

/**
 * A job waits twice this time at most. Postgres applies `lock_timeout` to each of two waits: for
 * the turn among the waiters of a row, and for the transaction that holds it.
 */
const LOCK_WAIT_MS = 250;

/**
 * Locks a service for a job or a sweep. Waits at most twice `waitMs` for the lock. A job that waits
 * occupies a slot of its job worker, so one long transaction could occupy all of them. Throws
 * overloaded after the wait: the job retries with exponential backoff, and the next run of a sweep
 * tries the service again.
 */
export async function lockServiceBriefly(
  q: Queryable,
  serviceId: string,
  waitMs = LOCK_WAIT_MS,
): Promise<ServiceRow | undefined> {
  try {
    // The scan evaluates the condition before it locks the row.
    const hasLockTimeout = sql`set_config('lock_timeout', ${String(waitMs)}, true) is not null`;
    const isService = sql`id = ${serviceId} and ${hasLockTimeout}`;
    const service = await selectService(q, isService, sql`for no key update`);
    // The later locks of the transaction have no such limit.
    await q.execute(sql`set local lock_timeout to default`);
    return service;
  } catch (error) {
    if (!isLockTimeout(error)) throw error;
    throw new AppError("overloaded", {
      detail: `Another transaction holds the lock of service ${serviceId}. Retry later.`,
      retryAfterMs: waitMs,
    });
  }
}

/** Locks a service. Returns undefined while another transaction has locked it. */
export function claimServiceById(q: Queryable, serviceId: string): Promise<ServiceRow | undefined> {
  return selectService(q, sql`id = ${serviceId}`, sql`for no key update skip locked`);
}

function namedServiceSql(tenantId: string, name: string): SQL {
  return sql`tenant_id = ${tenantId} and name = ${name}`;
}

async function selectService(
  q: Queryable,
  condition: SQL,
  lock: SQL = sql``,
): Promise<ServiceRow | undefined> {
  const rows = await queryRows<ServiceRow>(
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
  return queryRows(
    q,
    sql`select ${serviceColumns} from services
        where id = ${anyOf(serviceIds)} and deleted_at is null order by id for no key update`,
  );
}

export interface NewService extends Omit<
  ServiceRow,
  "generation" | "revision" | "targetRevision" | "size" | "rootfsBytes" | "rollout" | "deleting"
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
 * Inserts services of one tenant, each with its first revision, its pending sets, its event and its
 * jobs. It is one statement, so that a burst of services costs a fraction of a round trip and of a
 * commit each. The answers have the order of `services`. Throws already-exists
 * (services_name_unique).
 *
 * With `growthWithAmpleQuota`, the growth by all of them, it inserts none if the tenant is near its
 * quota. It also leaves out a service whose pool or priority exceeds the grants, or whose name is
 * taken. The answer to these is undefined, so that the transaction around it continues. The names
 * are inserted in their order, so that two such batches do not deadlock.
 *
 * Checks of foreign keys and quota triggers use generic plans from here to the commit. Postgres
 * would otherwise plan each check.
 */
export async function insertServices(
  q: Queryable,
  tenantId: string,
  services: readonly NewService[],
  options: { growthWithAmpleQuota?: QuotaAmounts } = {},
): Promise<(StoredService | undefined)[]> {
  const { growthWithAmpleQuota } = options;
  const admitted = growthWithAmpleQuota
    ? sql`, (${selectTenantUsage(tenantId, growthWithAmpleQuota)}) u where u."hasAmpleQuota" and ${grantedServiceSql(tenantId)}
          order by w.name on conflict (tenant_id, name) where deleted_at is null do nothing`
    : sql``;
  const rows = await runWrite<StoredServiceRow>(
    q,
    sql`with wanted as materialized (
          select * from json_to_recordset(${JSON.stringify(services.map(newServiceRow))}::json) as w(id text, name text,
            replicas int, desired_replicas int, priority int, placement jsonb, on_host_lost text, autoscale jsonb,
            disruption jsonb, gateway_ports jsonb, template jsonb, cpu_millis bigint, memory_bytes bigint, volume_bytes bigint,
            rootfs_bytes bigint, set_ids jsonb, jobs jsonb, event_text text)
          where ${genericPlansFromHere}
        ), service as (
          insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost,
            autoscale, disruption, gateway_ports, set_cpu_millis, set_memory_bytes, set_volume_bytes, set_rootfs_bytes)
          select w.id, ${tenantId}, w.name, w.replicas, w.desired_replicas, w.priority, w.placement, w.on_host_lost,
            w.autoscale, w.disruption, w.gateway_ports, w.cpu_millis, w.memory_bytes, w.volume_bytes, w.rootfs_bytes
          from wanted w ${admitted}
          returning id, created_at
        ), first as (
          insert into revisions (service_id, number, template)
          select w.id, 1, w.template from service join wanted w on w.id = service.id
        ), added as (
          insert into sets (id, tenant_id, service_id, revision, priority, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes)
          select set_id, ${tenantId}, w.id, 1, w.priority, w.cpu_millis, w.memory_bytes, w.volume_bytes, w.rootfs_bytes
          from service join wanted w on w.id = service.id, jsonb_array_elements_text(w.set_ids) set_id
        ), appended as (
          insert into events (kind, text, tenant_id, service_id, generation, data)
          select 'service-created', w.event_text, ${tenantId}, w.id, 1, jsonb_build_object('service', w.name, 'replicas', w.replicas)
          from service join wanted w on w.id = service.id
        ), enqueued as (
          insert into outbox (name, job_id, payload)
          select job.name, job.job_id, job.payload
          from service join wanted w on w.id = service.id,
            jsonb_to_recordset(w.jobs) as job(name text, job_id text, payload jsonb)
          returning id, job_id
        )
        select w.id, tenants.name as tenant, service.created_at as "createdAt", (
            select coalesce(json_agg(e.id order by e.id), '[]') from enqueued e
            where w.jobs @> jsonb_build_array(jsonb_build_object('job_id', e.job_id))) as "outboxIds"
        from service join wanted w on w.id = service.id, tenants where tenants.id = ${tenantId}`,
  );
  const stored = new Map(rows.map((row) => [row.id, row]));
  return services.map(({ id }) => {
    const row = stored.get(id);
    if (!row) return undefined;
    const { tenant, createdAt, outboxIds } = row;
    return { tenant, createdAt: isoTime(createdAt), outboxIds };
  });
}

interface StoredServiceRow extends Omit<StoredService, "createdAt"> {
  id: string;
  createdAt: string | Date;
}

function newServiceRow(service: NewService) {
  const { name, replicas, template } = service;
  return {
    id: service.id,
    name,
    replicas,
    desired_replicas: service.desiredReplicas,
    priority: service.priority,
    placement: service.placement,
    on_host_lost: service.onHostLost,
    autoscale: service.autoscale,
    disruption: service.disruption,
    gateway_ports: toStoredGatewayPorts(service.gatewayPorts),
    template,
    cpu_millis: template.cpuMillis,
    memory_bytes: template.memoryBytes,
    volume_bytes: template.volume?.sizeBytes ?? 0,
    rootfs_bytes: template.rootfsBytes,
    set_ids: service.setIds,
    jobs: outboxRows(service.jobs),
    event_text: renderEventText("service-created", { service: name, replicas }),
  };
}

/** The index services_published has only services with published ports. */
function toStoredGatewayPorts(ports: ServiceRow["gatewayPorts"]): ServiceGatewayPort[] | null {
  return ports.length === 0 ? null : [...ports];
}

/** The tenant's grants include the pool and the priority. The caller checks all other grants. */
function grantedServiceSql(tenantId: string): SQL {
  return sql`exists (select 1 from tenants g where g.id = ${tenantId} and (g.grants->>'priorityMax')::int >= w.priority
    and (g.grants->'pools' @> '["*"]' or g.grants->'pools' @> jsonb_build_array(w.placement->>'pool')))`;
}

/** Updates a locked service and increments its generation. Returns the new generation. */
export async function updateService(q: Queryable, service: ServiceRow): Promise<number> {
  const { revision, targetRevision, size, rootfsBytes } = service;
  const rows = await q
    .update(services)
    .set({
      generation: sql`${services.generation} + 1`,
      revision,
      targetRevision: targetRevision === revision ? null : targetRevision,
      setCpuMillis: size.cpuMillis,
      setMemoryBytes: size.memoryBytes,
      setVolumeBytes: size.volumeBytes,
      setRootfsBytes: rootfsBytes,
      replicas: service.replicas,
      desiredReplicas: service.desiredReplicas,
      priority: service.priority,
      placement: service.placement,
      onHostLost: service.onHostLost,
      autoscale: service.autoscale,
      disruption: service.disruption,
      rollout: service.rollout,
      gatewayPorts: toStoredGatewayPorts(service.gatewayPorts),
      deleting: service.deleting,
      updatedAt: sql`now()`,
    })
    .where(eq(services.id, service.id))
    .returning({ generation: services.generation });
  return rows[0]?.generation ?? service.generation;
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

/** Whether one of two revisions has a static address. */
export async function hasStaticAddress(
  q: Queryable,
  serviceId: string,
  revisions: readonly [number, number],
): Promise<boolean> {
  const rows = await queryRows<unknown>(
    q,
    sql`select 1 from revisions where service_id = ${serviceId} and number in (${revisions[0]}, ${revisions[1]})
          and template @? '$.networks[*].address' limit 1`,
  );
  return rows.length > 0;
}

export async function findTemplate(
  q: Queryable,
  serviceId: string,
  revision: number,
): Promise<SetTemplate | undefined> {
  const rows = await q
    .select({ template: revisions.template })
    .from(revisions)
    .where(and(eq(revisions.serviceId, serviceId), eq(revisions.number, revision)));
  return rows[0]?.template;
}

/**
 * Lists services whose number of live sets is not the desired one, fairly across tenants: one of
 * each tenant first, then the second of each. The order within a tenant is random, so that
 * services that stay unbalanced do not hide the others.
 */
export async function listUnbalancedServices(q: Queryable, limit: number): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select s.id, row_number() over (partition by s.tenant_id order by random()) as position from services s
        left join (select s.service_id, count(*)::int as live from sets s where ${replicaSetSql} group by s.service_id) c on c.service_id = s.id
        where s.deleted_at is null and coalesce(c.live, 0) <> case when s.deleting then 0 else s.desired_replicas end
        order by position, random() limit ${limit}`,
  );
  return rows.map((row) => row.id);
}
