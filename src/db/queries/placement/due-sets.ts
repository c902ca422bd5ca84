import { sql } from "drizzle-orm";
import type { TemplateMembers } from "../../../contracts/agent-protocol/agent-features.ts";
import type { PlacementSpec } from "../../../contracts/api/placement-spec.ts";
import type { ContainerTemplate } from "../../../contracts/api/set-template.ts";
import { assert } from "../../../lib/assert.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import {
  type TemplateNetwork,
  hasNetworkedHostSql,
  selectTemplateNetworks,
} from "../networks/template-networks.ts";
import { pendingSetSql } from "../sets/write-sets.ts";
import { selectTakenHostPorts, type TakenHostPort } from "./host-ports.ts";
import { type DepartingSets, repellingServiceSql, selectDepartingSets } from "./placements.ts";

export interface PendingSetRow {
  id: string;
  serviceId: string;
  revision: number;
  generation: number;
  priority: number;
  attempts: number;
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
  rootfsBytes: number;
  avoidHostIds: string[];
  /** The subnets of which the set still has an address from its previous host. */
  ownSubnetIds: string[];
}

/** The placement rules of a service, and what one of its revisions needs of a host. */
export interface PlacementSpecRow extends TemplateMembers {
  serviceId: string;
  revision: number;
  tenantId: string;
  name: string;
  placement: PlacementSpec;
  /** Services of the tenant have anti-affinity rules, which may name this service. */
  mayBeRepelled: boolean;
  /** The departing sets. Empty for a service without spread. */
  departing: DepartingSets[];
  images: string[];
  /** The option of each business container. Null for the default. */
  logging: (ContainerTemplate["options"]["logging"] | null)[];
  /** The networks of its sets. Null without a networked host. */
  templateNetworks: TemplateNetwork[] | null;
  /** The hosts on which the fixed host ports of its sets are taken. Null without such a port. */
  takenHostPorts: TakenHostPort[] | null;
}

export interface DueSets {
  sets: PendingSetRow[];
  /** One row for each revision of `sets`. */
  specs: PlacementSpecRow[];
  /** More sets may be due than `sets` has. */
  hasMore: boolean;
}

/**
 * The longest due sets, whose tenants each read considers. If fewer sets are due, it considers no
 * others.
 */
const OLDEST_MAX = 1_000;
/** Further pairs of priority and tenant that one read considers. Each costs some microseconds. */
const QUEUES_MAX = 5_000;

/**
 * Reads pending sets that are due, and the specs of their revisions, in one statement.
 *
 * Higher priorities come first. Within a priority the tenants take turns: the longest due set of
 * each, then the second one of each, up to `setsMax` sets. If more tenants than that have due sets
 * of the highest priority, each of them gets one. So the sets of one tenant do not delay those of
 * another, however many sets or tenants there are.
 *
 * If fewer than OLDEST_MAX sets are due, the index sets_pending_due gives their tenants, and sets
 * that are not due cost nothing. Otherwise the statement also walks over the tenants in the index
 * sets_pending_by_tenant, at most QUEUES_MAX of them, due or not. A tenant beyond them gets its
 * turn when its set is one of the longest due. The statement reads the priorities one after the
 * other, and none after the batch is full. It takes no lock.
 *
 * The constant limit before that of the share is for the planner. It would otherwise expect a tenth
 * of all pending sets per tenant, and reserve memory for them.
 */
export async function listDueSets(q: Queryable, setsMax: number): Promise<DueSets> {
  const [due] = await queryRows<DueSets>(
    q,
    sql`with recursive oldest as materialized (
          select priority, tenant_id from sets where ${pendingSetSql} and desired <> 'deleted' and plan_after <= now()
          order by plan_after limit ${sql.raw(String(OLDEST_MAX))}
        ), queues as (
          (select priority, tenant_id from sets where ${indexedPendingSetSql} and (select count(*) from oldest) = ${sql.raw(String(OLDEST_MAX))}
            order by priority desc, tenant_id desc limit 1)
          union all
          select next.priority, next.tenant_id from queues cross join lateral (
            select priority, tenant_id from sets
            where ${indexedPendingSetSql} and (priority, tenant_id) < (queues.priority, queues.tenant_id)
            order by priority desc, tenant_id desc limit 1) next
        ), due_queues as (
          select priority, tenant_id from oldest
          union
          select priority, tenant_id from (select * from queues limit ${sql.raw(String(QUEUES_MAX))}) known cross join lateral (
            select from sets where ${dueInQueueSql("known")} limit 1) due
        ), due_priorities as (
          select priority, array_agg(tenant_id) as tenant_ids, count(*) as tenants,
            ceil(${sql.raw(`${setsMax}.0`)} / count(*))::int as share
          from due_queues group by priority
        ), due as materialized (
          select s.*, share from (select * from due_priorities order by priority desc) due_priority cross join lateral (
            select longest.* from (select priority, unnest(tenant_ids) as tenant_id) queue cross join lateral (
              select *, row_number() over (order by plan_after) as turn from (select * from (
                select id, service_id, tenant_id, revision, generation, priority, attempts, cpu_millis, memory_bytes,
                  volume_bytes, rootfs_bytes, avoid_host_ids, plan_after, state, desired
                from sets where ${dueInQueueSql("queue")} limit ${sql.raw(String(setsMax))}) of_tenant
                where state = 'pending' and desired <> 'deleted' limit share) shared) longest
            order by turn, plan_after, tenant_id) s
          limit (select greatest(${sql.raw(String(setsMax))}, tenants) from due_priorities order by priority desc limit 1)
        )
        select
          ${setsAndSpecs},
          (select count(*) from due) >= ${sql.raw(String(setsMax))}
            or exists (select 1 from due group by priority, tenant_id having count(*) >= min(share)) as "hasMore"`,
  );
  assert(due, "a select without a table gives a row");
  return due;
}

/**
 * SQL condition and order: the due sets of a queue, the longest due first. It does not name
 * `desired`, so that sets_pending_due cannot serve it. That index has the due sets of all tenants,
 * and the planner would choose it for each tenant while it expects few pending sets.
 */
const dueInQueueSql = (queue: string) =>
  sql`${indexedPendingSetSql} and priority = ${sql.raw(queue)}.priority and tenant_id = ${sql.raw(queue)}.tenant_id
    and plan_after <= now() order by plan_after`;

/** The condition of sets_pending_by_tenant, so that a search for tenants reads nothing else. */
const indexedPendingSetSql = sql`host_id is null and deleted_at is null`;

/** The sets of the table expression `due`, and the specs of their revisions, as two columns. */
const setsAndSpecs = sql`
  (select coalesce(json_agg(json_build_object('id', id, 'serviceId', service_id, 'revision', revision,
      'generation', generation, 'priority', priority, 'attempts', attempts, 'cpuMillis', cpu_millis,
      'memoryBytes', memory_bytes, 'volumeBytes', volume_bytes, 'rootfsBytes', rootfs_bytes,
      'avoidHostIds', avoid_host_ids, 'ownSubnetIds', case when generation > 1 and ${hasNetworkedHostSql}
        then array(select a.subnet_id from addresses a where a.set_id = due.id) else '{}' end)), '[]') from due) as sets,
  (select coalesce(json_agg(json_build_object('serviceId', s.id, 'revision', w.revision, 'tenantId', s.tenant_id,
      'name', s.name, 'placement', s.placement,
      'mayBeRepelled', exists (select 1 from services o where o.tenant_id = s.tenant_id and ${repellingServiceSql("o")}),
      'departing', case when s.placement->'spread' = '[]' then '[]' else ${selectDepartingSets(sql`s.id`)} end,
      'images', array(select c->>'image' from jsonb_array_elements(r.template->'containers') c),
      'logging', array(select c->'options'->'logging' from jsonb_array_elements(r.template->'containers') c),
      'members', array(select jsonb_object_keys(r.template)),
      'options', array(select distinct jsonb_object_keys(c->'options') from jsonb_array_elements(r.template->'containers') c),
      'networks', r.template->'networks',
      'ports', r.template->'ports',
      'takenHostPorts', ${selectTakenHostPorts(sql`r.template->'ports'`)},
      'templateNetworks', case when ${hasNetworkedHostSql} then ${selectTemplateNetworks({ tenantId: sql`s.tenant_id`, serviceId: sql`s.id` }, sql`r.template->'networks'`)} end)), '[]')
    from (select distinct service_id, revision from due) w join services s on s.id = w.service_id
      cross join lateral (select template from revisions where service_id = w.service_id and number = w.revision limit 1) r) as specs`;

/** Reads those of these sets that are pending, due or not, and the specs of their revisions. */
export async function readPendingSets(q: Queryable, setIds: readonly string[]): Promise<DueSets> {
  const [pending] = await queryRows<DueSets>(
    q,
    sql`with due as (select * from sets where id = ${anyOf(setIds)} and ${pendingSetSql} and desired <> 'deleted' order by id)
        select ${setsAndSpecs}, false as "hasMore"`,
  );
  assert(pending, "a select without a table gives a row");
  return pending;
}
