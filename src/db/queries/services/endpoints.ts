import { sql } from "drizzle-orm";
import type { Endpoint } from "../../../contracts/api/endpoints.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { replacedSetsSql } from "../operations/replacements.ts";
import { queryRows } from "../runtime/query.ts";

export interface ServiceEndpoints {
  serviceId: string;
  /** The number of all endpoints. */
  total: number;
  /** The first of them, by the id of the set. */
  endpoints: Endpoint[];
}

/**
 * SQL condition: a container of set `s` has not ended. A set whose containers have all succeeded
 * stays ready.
 */
const hasLiveContainerSql = sql`(s.containers = '[]' or jsonb_path_exists(s.containers, '$[*] ? (@.state <> "exited")'))`;

/**
 * SQL condition: set `s` accepts connections, if it has an address. The statement has a query
 * `replaced` of the sets whose replacements are available: see replacedSetsSql.
 */
export const isEndpointSql = sql`(s.deleted_at is null and s.desired = 'running' and s.ready and not s.leaving
  and ${hasLiveContainerSql} and not exists (select 1 from replaced where set_id = s.id))`;

/**
 * Finds the ready sets of a service with their addresses and ports, at most `limit`. Returns
 * undefined without the service. A set leaves the list in the transaction that orders its stop,
 * removal or move, or that marks its host lost or unhealthy. A set that is being replaced leaves it
 * once its replacement is available. Uses sets_service.
 */
export async function findEndpoints(
  q: Queryable,
  tenantId: string,
  name: string,
  limit: number,
): Promise<ServiceEndpoints | undefined> {
  const [row] = await queryRows<ServiceEndpoints>(
    q,
    sql`with service as materialized (
          select id from services where tenant_id = ${tenantId} and name = ${name} and deleted_at is null
        ), replaced as materialized (${replacedSetsSql(sql`o.service_id = (select id from service)`)}),
        ready as materialized (
          select s.id, s.host_id, s.address, s.revision, count(*) over () as total
          from service v join sets s on s.service_id = v.id
          where ${isEndpointSql}
            and (s.address is not null or exists (select 1 from addresses a where a.set_id = s.id and a.state = 'assigned'))
          order by s.id limit ${limit}
        ), templates as materialized (
          select number, template->'ports' as ports from revisions
          where service_id = (select id from service) and number in (select revision from ready)
        )
        select v.id as "serviceId", coalesce((select max(total) from ready), 0)::float8 as total,
          (select coalesce(json_agg(json_build_object('setId', r.id, 'host', json_build_object('id', h.id, 'name', h.name),
              'reach', case when i.list is null then 'host' else 'network' end,
              'interfaces', coalesce(i.list, json_build_array(json_build_object('network', null, 'addresses', json_build_array(r.address)))),
              'ports', p.list) order by r.id), '[]')
            from ready r join hosts h on h.id = r.host_id left join templates t on t.number = r.revision cross join lateral (
              select coalesce(json_agg(json_build_object('name', entry->>'name', 'protocol', entry->>'protocol', 'port', (entry->>'port')::int,
                  'published', case when o.port is not null and h.capabilities->>'hostAddress' is not null
                    then json_build_object('address', h.capabilities->>'hostAddress', 'port', o.port) end) order by place), '[]') as list
                from jsonb_array_elements(t.ports) with ordinality named(entry, place)
                  left join host_ports o on o.set_id = r.id and o.name = entry->>'name') p cross join lateral (
              select json_agg(json_build_object('network', network, 'addresses', addresses) order by network_index) as list from (
                select a.network_index, n.name as network, json_agg(host(a.address) order by b.family) as addresses
                from addresses a join subnets b on b.id = a.subnet_id join networks n on n.id = b.network_id
                where a.set_id = r.id and a.state = 'assigned' group by a.network_index, n.name) each) i) as endpoints
        from service v`,
  );
  return row;
}
