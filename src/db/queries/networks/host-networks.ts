import { sql } from "drizzle-orm";
import {
  type HostNetwork,
  type HostService,
  NETWORKS_PER_HOST_MAX,
  SERVICE_MEMBERS_MAX,
} from "../../../contracts/network-driver/network-state.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { replacedSetsSql } from "../operations/replacements.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import { rulesKeySql } from "../rules/host-rules.ts";
import { isEndpointSql } from "../services/endpoints.ts";

/** Lists the networks that have a set on a host: see listNetworksOnHosts. */
export async function listNetworksOnHost(q: Queryable, hostId: string): Promise<string[]> {
  const [ids] = await listNetworksOnHosts(q, [hostId]);
  return ids ?? [];
}

/**
 * Lists the networks that have a set on each host, known or unknown, at most 8,000 for each. Uses
 * sets_host and addresses_unknown.
 */
export async function listNetworksOnHosts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<string[][]> {
  const rows = await queryRows<{ hostId: string; ids: string[] }>(
    q,
    sql`select l."hostId", array_agg(l.id order by l.id) as ids from (
          select s.host_id as "hostId", b.network_id as id
          from sets s join addresses a on a.set_id = s.id and a.state = 'assigned' join subnets b on b.id = a.subnet_id
          where s.host_id = ${anyOf(hostIds)}
          union select a.unknown_host_id, b.network_id from addresses a join subnets b on b.id = a.subnet_id
          where a.unknown_host_id = ${anyOf(hostIds)} and a.unknown_set_id is not null and a.state = 'assigned'
        ) l group by l."hostId"`,
  );
  const found = new Map(rows.map(({ hostId, ids }) => [hostId, ids]));
  return hostIds.map((hostId) => (found.get(hostId) ?? []).slice(0, NETWORKS_PER_HOST_MAX));
}

/** The interface of a set in a network. */
export interface NetworkPort {
  hostId: string;
  mac: string;
  addresses: string[];
  /** The address of its host in the tunnel network. */
  tunnelAddress: string | null;
}

/** A network with its ports on all hosts. */
export interface FleetNetwork extends Pick<
  HostNetwork,
  "networkId" | "tenantId" | "name" | "vni" | "gateways" | "endConnectionsCount"
> {
  /** It differs if the rules may differ. Null without rules. */
  rulesKey: string | null;
  /** The order is that of the set ids. */
  ports: NetworkPort[];
  /** The order is that of the names. */
  services: HostService[];
}

/**
 * Finds a network with the first 58,000 sets that have an address in it, and with their services.
 * Its ports include those of unknown sets, which other hosts must reach after a restore.
 * The ports of a service are those of its current revision. A deleted service has no entry: its
 * remaining sets are on lost hosts, and its name is free. Uses subnets_family_unique,
 * addresses_pkey and sets_pkey.
 */
export async function findFleetNetwork(
  q: Queryable,
  networkId: string,
): Promise<FleetNetwork | undefined> {
  const [row] = await queryRows<FleetNetwork>(
    q,
    sql`with attached as materialized (
          select s.id, s.service_id, s.host_id, s.deleted_at, s.desired, s.ready, s.leaving, s.containers,
            min(a.mac) as mac, json_agg(host(a.address) order by b.family) as list
          from subnets b join addresses a on a.subnet_id = b.id and a.state = 'assigned' join sets s on s.id = a.set_id
          where b.network_id = ${networkId} group by s.id order by s.id limit ${SERVICE_MEMBERS_MAX}
        ), replaced as materialized (${replacedSetsSql(sql`o.set_id in (select id from attached)`)}),
        unknown as (
          select a.unknown_set_id as id, a.unknown_host_id as host_id, min(a.mac) as mac, json_agg(host(a.address) order by b.family) as list
          from addresses a join subnets b on b.id = a.subnet_id
          where a.unknown_set_id is not null and a.state = 'assigned' and b.network_id = ${networkId}
          group by a.unknown_set_id, a.unknown_host_id order by a.unknown_set_id limit ${SERVICE_MEMBERS_MAX}
        ),
        claimed as (
          select a.service_id, json_agg(host(a.address) order by b.family) as list
          from subnets b join addresses a on a.subnet_id = b.id and a.state = 'assigned'
          where b.network_id = ${networkId} and a.service_id is not null group by a.service_id
        ),
        members as (
          select s.service_id, json_agg(json_build_object('setId', s.id, 'addresses', s.list, 'isEndpoint', ${isEndpointSql}) order by s.id) as list
          from attached s group by s.service_id
        )
        select n.id as "networkId", n.tenant_id as "tenantId", n.name, n.vni,
          case when exists (select 1 from rules r where r.network_id = n.id) then ${rulesKeySql} end as "rulesKey",
          n.end_connections_count::float8 as "endConnectionsCount",
          (select coalesce(json_agg(host(b.gateway) order by b.family), '[]') from subnets b where b.network_id = n.id) as gateways,
          (select coalesce(json_agg(json_build_object('hostId', s.host_id, 'mac', s.mac, 'addresses', s.list,
              'tunnelAddress', h.capabilities->>'tunnelAddress') order by s.id), '[]')
            from (select id, host_id, mac, list from attached union all select * from unknown) s join hosts h on h.id = s.host_id) as ports,
          (select coalesce(json_agg(json_build_object('serviceId', v.id, 'name', v.name, 'addresses', coalesce(c.list, '[]'), 'members', coalesce(m.list, '[]'),
              'ports', (select coalesce(json_agg(json_build_object('name', p->'name', 'protocol', p->'protocol', 'port', p->'port') order by p->>'name'), '[]')
                from jsonb_array_elements(r.template->'ports') p)) order by v.name), '[]')
            from members m full join claimed c on c.service_id = m.service_id
              join services v on v.id = coalesce(m.service_id, c.service_id) and v.deleted_at is null
              join revisions r on r.service_id = v.id and r.number = v.revision) as services
        from networks n where n.id = ${networkId}`,
  );
  return row;
}
