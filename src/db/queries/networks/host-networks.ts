import { sql } from "drizzle-orm";
import type { PortProtocol } from "../../../contracts/api/template-ports.ts";
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

/** Lists the networks of a host: see readNetworksOnHosts. */
export async function listNetworksOnHost(q: Queryable, hostId: string): Promise<string[]> {
  const [read] = await readNetworksOnHosts(q, [hostId]);
  return read?.networkIds ?? [];
}

/** The networks of a host. */
export interface NetworksOnHost {
  networkIds: string[];
  /**
   * Whether the host has not confirmed yet that it is not a gateway of another network: see
   * confirmGatewayDepartures.
   */
  isLeaving: boolean;
}

/**
 * Lists the networks that have a set on each host, known or unknown, or of which it is a gateway,
 * at most 8,000 for each. Uses sets_host, addresses_unknown and addresses_gateway_subnet_unique.
 */
export async function readNetworksOnHosts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<NetworksOnHost[]> {
  const rows = await queryRows<NetworksOnHost & { hostId: string }>(
    q,
    sql`select l."hostId", array_remove(array_agg(l.id order by l.id), null) as "networkIds", bool_or(l.id is null) as "isLeaving" from (
          select s.host_id as "hostId", b.network_id as id
          from sets s join addresses a on a.set_id = s.id and a.state = 'assigned' join subnets b on b.id = a.subnet_id
          where s.host_id = ${anyOf(hostIds)}
          union select a.unknown_host_id, b.network_id from addresses a join subnets b on b.id = a.subnet_id
          where a.unknown_host_id = ${anyOf(hostIds)} and a.unknown_set_id is not null and a.state = 'assigned'
          union select a.gateway_host_id, case when a.state = 'assigned' then b.network_id end from addresses a join subnets b on b.id = a.subnet_id
          where a.gateway_host_id = ${anyOf(hostIds)} and (a.state = 'assigned' or a.gateway_left_at is null)
        ) l group by l."hostId"`,
  );
  const found = new Map(rows.map((row) => [row.hostId, row]));
  return hostIds.map((hostId) => {
    const { networkIds = [], isLeaving = false } = found.get(hostId) ?? {};
    return { networkIds: networkIds.slice(0, NETWORKS_PER_HOST_MAX), isLeaving };
  });
}

/** The interface of a set in a network. */
export interface NetworkPort {
  hostId: string;
  mac: string;
  addresses: string[];
  /** The address of its host in the tunnel network. */
  tunnelAddress: string | null;
}

/** A gateway of a network. */
interface NetworkGateway extends NetworkPort {
  /** The ports of the host that lead to services of the network, by the names of ports. */
  published: { serviceId: string; name: string; protocol: PortProtocol; hostPort: number }[];
}

/** A port of a service to which gateways lead. */
export interface GatewayTarget {
  serviceId: string;
  name: string;
  protocol: PortProtocol;
  /** The port in the newest revision that has it. */
  port: number;
  /** The revisions of sets that have it at another number, or lack it. */
  exceptions: { revision: number; port: number | null }[];
}

/** The sets of a revision in the network. */
interface RevisedSets {
  serviceId: string;
  revision: number;
  setIds: string[];
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
  /** The hosts that publish services of the network. The order is that of their ids. */
  publishers: NetworkGateway[];
  targets: GatewayTarget[];
  /** Those of revisions that `targets` has as exceptions. */
  revisedSets: RevisedSets[];
}

/** The number of the port that revision `r` has for a target `o`: a subquery of at most one row. */
const portOfRevisionSql = sql`jsonb_array_elements(r.template->'ports') as named(entry)
  where named.entry->>'name' = o.name and named.entry->>'protocol' = o.protocol`;

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
          select s.id, s.service_id, s.revision, s.host_id, s.deleted_at, s.desired, s.ready, s.leaving, s.containers,
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
        ),
        publishers as materialized (
          select h.id, a.mac, host(a.address) as address, h.capabilities->>'tunnelAddress' as tunnel_address
          from subnets b join addresses a on a.subnet_id = b.id and a.state = 'assigned' join hosts h on h.id = a.gateway_host_id
          where b.network_id = ${networkId}
        ),
        targets as materialized (
          select o.service_id, o.name, o.protocol, newest.port,
            (select json_agg(json_build_object('revision', e.revision, 'port', e.port) order by e.revision) from (
              select s.revision, (select (named.entry->>'port')::int from revisions r cross join lateral ${portOfRevisionSql}
                  and r.service_id = o.service_id and r.number = s.revision) as port
              from (select distinct revision from attached where service_id = o.service_id) s) e
              where e.port is distinct from newest.port) as exceptions
          from (select distinct p.service_id, p.name, p.protocol from publishers g
              join host_ports p on p.host_id = g.id and p.network_id = ${networkId}) o
            join services v on v.id = o.service_id
            cross join lateral (select (named.entry->>'port')::int as port from revisions r cross join lateral ${portOfRevisionSql}
              and r.service_id = v.id and r.number in (v.revision, coalesce(v.target_revision, v.revision)) order by r.number desc limit 1) newest
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
              join revisions r on r.service_id = v.id and r.number = v.revision) as services,
          (select coalesce(json_agg(json_build_object('hostId', g.id, 'mac', g.mac, 'addresses', json_build_array(g.address),
              'tunnelAddress', g.tunnel_address, 'published', (
                select coalesce(json_agg(json_build_object('serviceId', o.service_id, 'name', o.name, 'protocol', o.protocol, 'hostPort', o.port)
                    order by o.protocol, o.port), '[]')
                from host_ports o where o.host_id = g.id and o.network_id = n.id)) order by g.id), '[]') from publishers g) as publishers,
          (select coalesce(json_agg(json_build_object('serviceId', t.service_id, 'name', t.name, 'protocol', t.protocol, 'port', t.port,
              'exceptions', coalesce(t.exceptions, '[]')) order by t.service_id, t.name, t.protocol), '[]') from targets t) as targets,
          (select coalesce(json_agg(json_build_object('serviceId', service_id, 'revision', revision, 'setIds', ids) order by service_id, revision), '[]') from (
            select s.service_id, s.revision, json_agg(s.id order by s.id) as ids from attached s
            where (s.service_id, s.revision) in (select t.service_id, (e.entry->>'revision')::int from targets t cross join json_array_elements(t.exceptions) e(entry))
            group by s.service_id, s.revision) each) as "revisedSets"
        from networks n where n.id = ${networkId}`,
  );
  return row;
}
