import { sql } from "drizzle-orm";
import { NETWORKS_FEATURE } from "../../../contracts/agent-protocol/agent-features.ts";
import type { PortProtocol } from "../../../contracts/api/template-ports.ts";
import { GATEWAY_PORTS_PER_TENANT_MAX } from "../../../contracts/api/gateways.ts";
import { GATEWAY_PORTS_MAX } from "../../../contracts/network-driver/network-state.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import type { SearchCursor } from "./assign-addresses.ts";
import { gatewayFeatures, wantedPortsSql } from "./wanted-ports.ts";

const networksFeature = sql.raw(`'["${NETWORKS_FEATURE}"]'`);

/**
 * Lists the hosts after `after` that are gateways, or that have claims of one, by id. Uses
 * hosts_gateways, host_ports_service and addresses_gateway_subnet_unique.
 */
export async function listGateways(q: Queryable, after: string, limit: number): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select id from hosts where gateway_group is not null and id > ${after}
        union select host_id from host_ports where service_id is not null and host_id > ${after}
        union select gateway_host_id from addresses where gateway_host_id is not null and state = 'assigned' and gateway_host_id > ${after}
        order by 1 limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/** A port of a gateway for a service, by the name of the port in the template. */
export interface GatewayClaim {
  protocol: PortProtocol;
  port: number;
  serviceId: string;
  networkId: string;
  name: string;
}

interface WantedGatewayClaim extends GatewayClaim {
  subnetId: string;
  /** The desired number of sets of the service. */
  sets: number;
}

/** The claims that a gateway has, and those that it should have. */
export interface GatewayClaims {
  hostId: string;
  /** The host can publish services now. Otherwise it only retains what it has. */
  canPublish: boolean;
  /**
   * The ports that the host has for them come first, and then the others in the order of the
   * services. The network is the first one with an IPv4 subnet.
   */
  wanted: WantedGatewayClaim[];
  held: GatewayClaim[];
  /** The wanted ports that sets of the host have. */
  taken: { protocol: PortProtocol; port: number }[];
  addresses: { networkId: string; subnetId: string }[];
}

/**
 * Reads the claims of these gateways, at most GATEWAY_PORTS_MAX wanted ports of each, and
 * GATEWAY_PORTS_PER_TENANT_MAX of one tenant. So a new port never displaces one that the host has,
 * and no tenant uses up the ports of a gateway. Uses services_published.
 */
export async function readGatewayClaims(
  q: Queryable,
  hostIds: readonly string[],
): Promise<GatewayClaims[]> {
  return queryRows(
    q,
    sql`with g as materialized (
          select id, pool, gateway_group, coalesce(capabilities->'features' @> ${gatewayFeatures}, false) as can_publish from hosts where id = ${anyOf(hostIds)}
        ), wanted as materialized (
          select * from (
            select tenants.*, row_number() over (partition by host_id order by is_held desc, service_id, name, port) as place from (
              select w.*, o.host_id is not null as is_held, row_number() over (partition by w.host_id, w.tenant_id
                order by (o.host_id is null), w.service_id, w.name, w.port) as tenant_place
              from (${wantedPortsSql(sql`g`)}) w left join host_ports o
                on o.host_id = w.host_id and o.protocol = w.protocol and o.port = w.port and o.service_id = w.service_id) tenants
            where tenant_place <= ${GATEWAY_PORTS_PER_TENANT_MAX}) each
          where place <= ${GATEWAY_PORTS_MAX}
        )
        select g.id as "hostId", g.can_publish as "canPublish",
          (select coalesce(json_agg(json_build_object('protocol', w.protocol, 'port', w.port, 'serviceId', w.service_id,
              'networkId', w.network_id, 'subnetId', w.subnet_id, 'name', w.name, 'sets', w.sets) order by w.place), '[]')
            from wanted w where w.host_id = g.id) as wanted,
          (select coalesce(json_agg(json_build_object('protocol', o.protocol, 'port', o.port, 'serviceId', o.service_id,
              'networkId', o.network_id, 'name', o.name) order by o.protocol, o.port), '[]')
            from host_ports o where o.host_id = g.id and o.service_id is not null) as held,
          (select coalesce(json_agg(distinct jsonb_build_object('protocol', w.protocol, 'port', w.port)), '[]')
            from wanted w join host_ports o on o.host_id = g.id and o.protocol = w.protocol and o.port = w.port and o.set_id is not null
            where w.host_id = g.id) as taken,
          (select coalesce(json_agg(json_build_object('networkId', b.network_id, 'subnetId', b.id)), '[]')
            from addresses a join subnets b on b.id = a.subnet_id where a.gateway_host_id = g.id and a.state = 'assigned') as addresses
        from g order by g.id`,
  );
}

/** Locks a host before its claims change. Returns false for a deleted host. */
export async function lockGateway(q: Queryable, hostId: string): Promise<boolean> {
  const rows = await queryRows<unknown>(
    q,
    sql`select 1 from hosts where id = ${hostId} for no key update`,
  );
  return rows.length > 0;
}

/**
 * Deletes ports of a locked gateway. Without ports it sends no statement. It locks the rows in the
 * order of the services, as the deletion of services does.
 */
export async function deleteGatewayPorts(
  q: Queryable,
  hostId: string,
  ports: readonly GatewayClaim[],
): Promise<void> {
  if (ports.length === 0) return;
  await q.execute(
    sql`with locked as materialized (
          select o.protocol, o.port from json_to_recordset(${JSON.stringify(ports)}::json) as d(protocol text, port int, "serviceId" text)
            join host_ports o on o.host_id = ${hostId} and o.protocol = d.protocol and o.port = d.port and o.service_id = d."serviceId"
          order by o.service_id, o.protocol, o.port for update of o
        )
        delete from host_ports o using locked l where o.host_id = ${hostId} and o.protocol = l.protocol and o.port = l.port`,
  );
}

/**
 * Stores ports of a locked gateway. A violated key fails the transaction: no port of a host has two
 * holders. Without ports it sends no statement.
 */
export async function insertGatewayPorts(
  q: Queryable,
  hostId: string,
  ports: readonly GatewayClaim[],
): Promise<void> {
  if (ports.length === 0) return;
  await q.execute(
    sql`insert into host_ports (host_id, protocol, port, service_id, network_id, name)
        select ${hostId}, c.protocol, c.port, c."serviceId", c."networkId", c.name
        from json_to_recordset(${JSON.stringify(ports)}::json) as c(protocol text, port int, "serviceId" text, "networkId" text, name text)`,
  );
}

/** Finds the quarantined addresses that a gateway had in locked subnets. */
export async function findPreviousGatewayAddresses(
  q: Queryable,
  hostId: string,
  subnetIds: readonly string[],
): Promise<{ subnetId: string; address: string }[]> {
  return queryRows(
    q,
    sql`select subnet_id as "subnetId", host(address) as address from addresses
        where gateway_host_id = ${hostId} and subnet_id = ${anyOf(subnetIds)} and state = 'quarantined'`,
  );
}

/** An address for a locked gateway. */
export interface ChosenGatewayAddress {
  subnetId: string;
  address: string;
  mac: string;
  /** The gateway had it before, and it is still quarantined. */
  isReused: boolean;
}

/**
 * Stores addresses of a locked gateway in locked subnets. A violated key fails the transaction: no
 * address has two holders. Without addresses it sends no statement.
 */
export async function insertGatewayAddresses(
  q: Queryable,
  hostId: string,
  chosen: readonly ChosenGatewayAddress[],
  cursors: readonly SearchCursor[],
): Promise<void> {
  if (chosen.length === 0) return;
  await q.execute(
    sql`with chosen as materialized (
          select * from json_to_recordset(${JSON.stringify(chosen)}::json) as c("subnetId" text, address inet, mac text, "isReused" boolean)
        ), added as (
          insert into addresses (subnet_id, address, gateway_host_id, mac)
          select "subnetId", address, ${hostId}, mac from chosen where not "isReused" returning subnet_id
        ), reused as (
          update addresses a set state = 'assigned', quarantined_at = null, gateway_left_at = null from chosen c
          where c."isReused" and a.subnet_id = c."subnetId" and a.address = c.address and a.gateway_host_id = ${hostId}
        )
        update subnets s set unavailable = s.unavailable + (select count(*) from added where subnet_id = s.id), last_offset = n."lastOffset"
        from json_to_recordset(${JSON.stringify(cursors)}::json) as n("subnetId" text, "lastOffset" bigint)
        where s.id = n."subnetId"`,
  );
}

/** Quarantines the addresses of a gateway in these subnets. Without any it sends no statement. */
export async function quarantineGatewayAddresses(
  q: Queryable,
  hostId: string,
  subnetIds: readonly string[],
): Promise<void> {
  if (subnetIds.length === 0) return;
  await q.execute(
    sql`update addresses set state = 'quarantined', quarantined_at = now()
        where gateway_host_id = ${hostId} and subnet_id = ${anyOf(subnetIds)} and state = 'assigned'`,
  );
}

/**
 * Records that a host is a gateway of these networks alone, so that the quarantines of its other
 * addresses can end. Its agent has the current networks. It records nothing while its network
 * driver is not ready: the flows may be older ones. Uses addresses_gateway_subnet_unique.
 */
export async function confirmGatewayDepartures(
  q: Queryable,
  hostId: string,
  networkIds: readonly string[],
): Promise<void> {
  await q.execute(
    sql`update addresses a set gateway_left_at = now() from subnets b
        where b.id = a.subnet_id and a.gateway_host_id = ${hostId} and a.state = 'quarantined' and a.gateway_left_at is null
          and b.network_id not in (select value from json_array_elements_text(${JSON.stringify(networkIds)}::json))
          and exists (select 1 from hosts h where h.id = ${hostId} and h.capabilities->'features' @> ${networksFeature})`,
  );
}

/** Lists the services that have ports of a host as a gateway, at most GATEWAY_PORTS_MAX. */
export async function listGatewayServices(q: Queryable, hostId: string): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct service_id as id from host_ports where host_id = ${hostId} and service_id is not null
        order by 1 limit ${GATEWAY_PORTS_MAX}`,
  );
  return rows.map(({ id }) => id);
}
