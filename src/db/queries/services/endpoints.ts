import { sql } from "drizzle-orm";
import { type Endpoint, GATEWAY_PORTS_LISTED_MAX } from "../../../contracts/api/endpoints.ts";
import { GATEWAY_PORTS_PER_TENANT_MAX, type GatewayPort } from "../../../contracts/api/gateways.ts";
import {
  GATEWAY_PORTS_MAX,
  GATEWAY_TARGETS_MAX,
} from "../../../contracts/network-driver/network-state.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { gatewayFeatures, wantedPortsSql } from "../networks/wanted-ports.ts";
import { replacedSetsSql } from "../operations/replacements.ts";
import { queryRows } from "../runtime/query.ts";

export interface ServiceEndpoints {
  serviceId: string;
  /** The number of all endpoints. */
  total: number;
  /** The first of them, by the id of the set. */
  endpoints: Endpoint[];
  /** The ports of gateways that lead to the service, by port and host. */
  gateways: GatewayPort[];
}

/** SQL condition: host `h` takes no further port `w` for service `v`. */
const isFullSql = sql`(select count(*) >= ${GATEWAY_PORTS_MAX} or count(*) filter (where f.tenant_id = v.tenant_id) >= ${GATEWAY_PORTS_PER_TENANT_MAX}
    or coalesce(sum(f.desired_replicas), 0) + w.sets > ${GATEWAY_TARGETS_MAX}
  from host_ports p join services f on f.id = p.service_id where p.host_id = h.id)`;

/**
 * SQL condition: gateway `h` reaches a set of `ready` at the port `w`. A set of an older revision
 * may lack the port, and one of Docker's bridge is in no network. Sets of other hosts need tunnels.
 */
const hasEndpointSql = sql`exists (select 1 from ready r join templates t on t.number = r.revision
  cross join lateral jsonb_array_elements(t.ports) named(entry) join hosts x on x.id = r.host_id
  where named.entry->>'name' = w.name and named.entry->>'protocol' = w.protocol
    and (x.id = h.id or (x.capabilities->>'tunnelAddress' is not null and h.capabilities->>'tunnelAddress' is not null))
    and exists (select 1 from addresses i where i.set_id = r.id and i.subnet_id = w.subnet_id and i.state = 'assigned'))`;

/**
 * A list of GatewayPort of service `v`. A host without a claimed port, or without an address in the
 * network, does not lead to the service. Neither does one for which no set of `ready` has the port.
 * A host takes no further port beyond the limits of the sweep: see planGateway. Uses
 * hosts_gateways.
 */
const gatewayPortsSql = sql`case when v.gateway_ports is null then '[]' else (
  select coalesce(json_agg(json_build_object('port', w.name, 'protocol', w.protocol, 'gatewayGroup', w.gateway_group,
      'host', json_build_object('id', h.id, 'name', h.name), 'address', h.capabilities->>'hostAddress', 'gatewayPort', w.port,
      'reason', case when o.host_id is not null and o.service_id is distinct from v.id then 'host-port-taken'
        when h.state <> 'ready' then 'host-not-ready'
        when h.capabilities->>'hostAddress' is null or not coalesce(h.capabilities->'features' @> ${gatewayFeatures}, false) then 'publishing-unavailable'
        when o.host_id is null and ${isFullSql} then 'limit-reached'
        when a.address is null and b.unavailable >= b.usable then 'subnet-exhausted'
        when o.host_id is null or a.address is null then 'pending'
        when not ${hasEndpointSql} then 'no-endpoints' end) order by w.name, w.port, h.id), '[]')
    from (select * from (${wantedPortsSql(sql`(select * from hosts where gateway_group is not null) g`)}) each
        where service_id = v.id order by name, port, host_id limit ${GATEWAY_PORTS_LISTED_MAX}) w
      join hosts h on h.id = w.host_id join subnets b on b.id = w.subnet_id
      left join host_ports o on o.host_id = h.id and o.protocol = w.protocol and o.port = w.port
      left join addresses a on a.gateway_host_id = h.id and a.subnet_id = w.subnet_id and a.state = 'assigned') end`;

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
          select id, tenant_id, gateway_ports from services where tenant_id = ${tenantId} and name = ${name} and deleted_at is null
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
                where a.set_id = r.id and a.state = 'assigned' group by a.network_index, n.name) each) i) as endpoints,
          ${gatewayPortsSql} as gateways
        from service v`,
  );
  return row;
}
