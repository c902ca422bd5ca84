import { type SQL, sql } from "drizzle-orm";
import {
  NETWORKS_PER_HOST_MAX,
  REMOTE_PORTS_MAX,
} from "../../../contracts/network-driver/network-state.ts";
import type { HostNetwork } from "../../../contracts/network-driver/network-state.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows } from "../runtime/query.ts";

/** Lists the networks that have a set on a host, at most 8,000. */
export async function listNetworksOnHost(q: Queryable, hostId: string): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(q, selectNetworksOnHost(hostId));
  return rows.map(({ id }) => id);
}

function selectNetworksOnHost(hostId: string): SQL {
  return sql`select distinct b.network_id as id
      from sets s join addresses a on a.set_id = s.id and a.state = 'assigned' join subnets b on b.id = a.subnet_id
      where s.host_id = ${hostId} order by 1 limit ${NETWORKS_PER_HOST_MAX}`;
}

/**
 * Lists the networks that have a set on a host, each with its sets on other hosts that report a
 * tunnel address. At most the first 50,000 of these in each network. Uses sets_host,
 * addresses_set_subnet_unique and addresses_pkey.
 */
export async function listHostNetworks(
  q: Queryable,
  hostId: string,
): Promise<Omit<HostNetwork, "rules" | "services">[]> {
  return queryRows(
    q,
    sql`with own as materialized (${selectNetworksOnHost(hostId)})
        select n.id as "networkId", n.tenant_id as "tenantId", n.name, n.vni,
          (select coalesce(json_agg(host(b.gateway) order by b.family), '[]') from subnets b where b.network_id = n.id) as gateways,
          (select coalesce(json_agg(json_build_object('mac', port.mac, 'addresses', port.addresses, 'tunnelAddress', port.tunnel)
                order by port.mac, port.tunnel), '[]')
            from (select min(a.mac) as mac, json_agg(host(a.address) order by b.family) as addresses, h.capabilities->>'tunnelAddress' as tunnel
              from subnets b join addresses a on a.subnet_id = b.id and a.state = 'assigned'
                join sets s on s.id = a.set_id join hosts h on h.id = s.host_id
              where b.network_id = n.id and s.host_id <> ${hostId} and h.capabilities->>'tunnelAddress' is not null
              group by s.id, h.id order by s.id limit ${REMOTE_PORTS_MAX}) port) as "remotePorts"
        from own join networks n on n.id = own.id order by n.vni`,
  );
}
