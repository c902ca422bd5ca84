import { type SQL, sql } from "drizzle-orm";
import type { Service, ServiceCounts } from "../../../contracts/api/services.ts";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, rowsOf } from "../runtime/query.ts";

type ServiceReadRow = Omit<Service, "counts" | "createdAt" | "updatedAt"> & {
  counts: ServiceCounts;
  reason: Reason | null;
  createdAt: string | Date;
  updatedAt: string | Date;
};

/**
 * Services with their counts in one statement: one scan of each service's live sets (index sets_service).
 * A set that somebody stopped counts as being where it should be, one that is to move or to get another size does not.
 */
function servicesWhere(condition: SQL): SQL {
  return sql`
    select s.id, t.name as tenant, s.name, s.generation::float8 as generation, s.revision, s.replicas,
      s.desired_replicas as "desiredReplicas", s.priority, r.template, s.placement, s.on_host_lost as "onHostLost",
      s.autoscale, s.deleting, s.created_at as "createdAt", s.updated_at as "updatedAt", c.counts, c.reason,
      not s.deleting and c.in_place = s.desired_replicas and c.live = c.in_place as settled
    from services s
    join tenants t on t.id = s.tenant_id
    join revisions r on r.service_id = s.id and r.number = s.revision
    cross join lateral (
      select count(*)::int as live,
        (count(*) filter (where not leaving and move_revision is null and sized and ((state = 'running' and ready and desired = 'running')
          or (state = 'stopped' and desired = 'stopped'))))::int as in_place,
        mode() within group (order by coalesce(reason, held_back) - 'at') filter (where coalesce(reason, held_back) is not null) as reason,
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
      from sets where service_id = s.id and deleted_at is null
    ) c
    where s.deleted_at is null and ${condition}`;
}

export async function findService(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<Service | undefined> {
  const rows = await rowsOf<ServiceReadRow>(
    q,
    servicesWhere(sql`s.tenant_id = ${tenantId} and s.name = ${name}`),
  );
  return rows.map(toService)[0];
}

/** Oldest first, after `afterId`; of one tenant, or of all when `scope` is null. */
export async function listServices(
  q: Queryable,
  scope: string | null,
  afterId: string | undefined,
  limit: number,
): Promise<Service[]> {
  const rows = await rowsOf<ServiceReadRow>(
    q,
    sql`${servicesWhere(sql`s.id > ${afterId ?? ""} and ${inScope(sql`s.tenant_id`, scope)}`)}
        order by s.id limit ${limit}`,
  );
  return rows.map(toService);
}

/** Written out rather than as `$1 is null or …`, so that the planner sees which index serves. */
export function inScope(column: SQL, scope: string | null): SQL {
  return scope === null ? sql`true` : sql`${column} = ${scope}`;
}

function toService(row: ServiceReadRow): Service {
  return { ...row, createdAt: isoTime(row.createdAt), updatedAt: isoTime(row.updatedAt) };
}
