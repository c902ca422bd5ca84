import { type SQL, type SQLWrapper, sql } from "drizzle-orm";
import {
  type DisruptionBudget,
  disruptionBudgetSchema,
} from "../../../contracts/api/disruption-budget.ts";
import type { Service, ServiceCounts } from "../../../contracts/api/services.ts";
import { templateWithSize } from "../../../contracts/api/set-template.ts";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, readByKey, queryRows } from "../runtime/query.ts";

type ServiceReadRow = Omit<Service, "counts" | "disruption" | "createdAt" | "updatedAt"> & {
  /** Null for the defaults. */
  disruption: DisruptionBudget | null;
  counts: ServiceCounts;
  reason: Reason | null;
  createdAt: string | Date;
  updatedAt: string | Date;
};

/**
 * Services with their counts in one statement: one scan of each service's live sets (index
 * sets_service). A set that a user stopped counts as settled. A set with a move or a resize
 * does not.
 */
const setReason = sql`coalesce(reason, blocked, last_operation->'reason')`;

function servicesWhere(condition: SQL): SQL {
  const liveSets = sql`sets where service_id = s.id and deleted_at is null`;
  return sql`${serviceColumns} ${fromServicesSql(sql`services s`, liveSets)} and ${condition}`;
}

/** The addresses of service `s`, by network. Uses addresses_service_subnet_unique. */
const serviceAddressesSql = sql`(select coalesce(json_agg(json_build_object('network', network, 'addresses', list) order by network), '[]')
  from (select n.name as network, json_agg(host(a.address) order by b.family) as list
    from addresses a join subnets b on b.id = a.subnet_id join networks n on n.id = b.network_id
    where a.service_id = s.id and a.state = 'assigned' group by n.name) each)`;

const serviceColumns = sql`select s.id, t.name as tenant, s.name, s.generation::float8 as generation, s.revision,
      greatest(s.revision, coalesce(s.target_revision, 0)) as "targetRevision", c."updatedSets", s.replicas,
      json_build_object('cpuMillis', s.set_cpu_millis, 'memoryBytes', s.set_memory_bytes, 'volumeBytes', s.set_volume_bytes) as size,
      s.disruption,
      s.desired_replicas as "desiredReplicas", s.priority, r.template, s.placement, s.on_host_lost as "onHostLost",
      s.autoscale, coalesce(s.gateway_ports, '[]') as "gatewayPorts", ${serviceAddressesSql} as addresses, s.deleting, s.created_at as "createdAt", s.updated_at as "updatedAt", c.counts, c.reason,
      not s.deleting and s.revision >= coalesce(s.target_revision, 0)
        and not exists (select 1 from rollouts where service_id = s.id and state in ('running', 'paused', 'rolling-back'))
        and c.in_place = s.desired_replicas and c.live = c.in_place as settled`;

/**
 * @param services a source of rows `s`
 * @param liveSets a source of the live sets of `s`
 */
function fromServicesSql(services: SQL, liveSets: SQL): SQL {
  return sql`from ${services}
    join tenants t on t.id = s.tenant_id
    join revisions r on r.service_id = s.id and r.number = greatest(s.revision, coalesce(s.target_revision, 0))
    cross join lateral (
      select count(*)::int as live,
        (count(*) filter (where set_id is null and sized and ((state = 'running' and ready and desired = 'running')
          or (state = 'stopped' and desired = 'stopped'))))::int as in_place,
        (count(*) filter (where revision = greatest(s.revision, coalesce(s.target_revision, 0))))::int as "updatedSets",
        mode() within group (order by ${setReason} - 'at') filter (where ${setReason} is not null) as reason,
        json_build_object(
          'pending', count(*) filter (where state = 'pending'),
          'placed', count(*) filter (where state = 'placed'),
          'preparing', count(*) filter (where state = 'preparing'),
          'starting', count(*) filter (where state = 'starting'),
          'running', count(*) filter (where state = 'running'),
          'ready', count(*) filter (where ready),
          'stopping', count(*) filter (where state = 'stopping'),
          'stopped', count(*) filter (where state = 'stopped'),
          'failed', count(*) filter (where state = 'failed'),
          'lost', count(*) filter (where state = 'lost')) as counts
      from (select x.*, o.set_id, o.blocked from (select * from ${liveSets}) x left join operations o on o.set_id = x.id) x
    ) c
    where s.deleted_at is null`;
}

export async function findService(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<Service | undefined> {
  const rows = await queryRows<ServiceReadRow>(
    q,
    servicesWhere(sql`s.tenant_id = ${tenantId} and s.name = ${name}`),
  );
  return rows.map(toService)[0];
}

export interface ServiceKey {
  tenantId: string;
  name: string;
}

/**
 * The maximum number of sets that a read by key counts for a service. So a large service delays no
 * other.
 */
const COUNTED_BY_KEY_MAX = 500;

/**
 * Finds services by key, each at the position of its key. Equal keys share one count of the sets.
 * Postgres caches the plan (see `dbForKeyReads`), because it finds every row by an index. Returns
 * "large" for a service with more sets than `COUNTED_BY_KEY_MAX`: the caller reads it by
 * `findService`.
 */
export async function findServices(
  q: Queryable,
  keys: readonly ServiceKey[],
): Promise<(Service | "large" | undefined)[]> {
  const distinct = new Map(keys.map((key) => [`${key.tenantId} ${key.name}`, key]));
  const source = sql`json_to_recordset(${JSON.stringify([...distinct.values()])}::json) as k("tenantId" text, name text)
    join services s on s.tenant_id = k."tenantId" and s.name = k.name`;
  const someSets = sql`sets where service_id = s.id and deleted_at is null
    limit ${sql.raw(String(COUNTED_BY_KEY_MAX + 1))}`;
  const rows = await readByKey<ServiceReadRow & { tenantId: string; live: number }>(
    q,
    sql`${serviceColumns}, s.tenant_id as "tenantId", c.live ${fromServicesSql(source, someSets)}`,
  );
  const found = new Map(rows.map((row) => [`${row.tenantId} ${row.name}`, row]));
  return keys.map(({ tenantId, name }) => {
    const row = found.get(`${tenantId} ${name}`);
    if (!row) return undefined;
    const { tenantId: _tenantId, live, ...service } = row;
    return live > COUNTED_BY_KEY_MAX ? "large" : toService(service);
  });
}

/** Lists services after `afterId`, the oldest first. A null scope means all tenants. */
export async function listServices(
  q: Queryable,
  scope: string | null,
  afterId: string | undefined,
  limit: number,
): Promise<Service[]> {
  const rows = await queryRows<ServiceReadRow>(
    q,
    sql`${servicesWhere(sql`s.id > ${afterId ?? ""} and ${inScope(sql`s.tenant_id`, scope)}`)}
        order by s.id limit ${limit}`,
  );
  return rows.map(toService);
}

/** SQL condition for a scope. Not `$1 is null or …`, so that Postgres can choose an index. */
export function inScope(column: SQLWrapper, scope: string | null): SQL {
  return scope === null ? sql`true` : sql`${column} = ${scope}`;
}

const defaultBudget = disruptionBudgetSchema.parse({});

function toService(row: ServiceReadRow): Service {
  return {
    ...row,
    template: templateWithSize(row.template, {
      ...row.size,
      // A target has its own volume size until it is adopted.
      volumeBytes: row.revision === row.targetRevision ? row.size.volumeBytes : 0,
    }),
    disruption: row.disruption ?? defaultBudget,
    createdAt: isoTime(row.createdAt),
    updatedAt: isoTime(row.updatedAt),
  };
}
