import { type SQL, sql } from "drizzle-orm";
import type { OffsetRange } from "../../../contracts/common/subnet-addresses.ts";
import type { NetworkAddress } from "../../../contracts/api/networks.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTimeOrNull, queryRows } from "../runtime/query.ts";

type AddressReadRow = Omit<NetworkAddress, "quarantinedAt"> & {
  quarantinedAt: string | Date | null;
};

/** Lists the addresses of a network after `afterAddress`: IPv4 first, then by number. */
export async function listNetworkAddresses(
  q: Queryable,
  networkId: string,
  afterAddress: string | undefined,
  limit: number,
): Promise<NetworkAddress[]> {
  const rows = await queryRows<AddressReadRow>(
    q,
    sql`select host(a.address) as address, a.mac, coalesce(a.set_id, a.unknown_set_id) as "setId", v.name as service, h.name as gateway, a.network_index as "networkIndex", a.state, a.quarantined_at as "quarantinedAt"
        from subnets b join addresses a on a.subnet_id = b.id
          left join sets s on s.id = a.set_id left join services v on v.id = coalesce(a.service_id, s.service_id)
          left join hosts h on h.id = a.gateway_host_id
        where b.network_id = ${networkId} and a.address > ${afterAddress ?? "0.0.0.0"}::inet
        order by a.address limit ${limit}`,
  );
  return rows.map((row) => ({ ...row, quarantinedAt: isoTimeOrNull(row.quarantinedAt) }));
}

/** SQL condition: Berth may assign the address in the subnet `b`. */
export const isAssignableSql = (address: SQL): SQL => sql`${address} << b.cidr and exists (
  select 1 from jsonb_array_elements(b.ranges) r
  where ${address} between host(b.cidr)::inet + (r->>0)::bigint and host(b.cidr)::inet + (r->>1)::bigint)`;

/** An address and its holder. */
export interface HeldAddress {
  address: string;
  /** Null for the address of a service or a gateway. */
  setId: string | null;
  /** The name of the service, or of the service of the set. Null for the address of a gateway. */
  service: string | null;
}

/**
 * Deletes the quarantined addresses of a locked subnet outside of these ranges of offsets, because
 * no one can get them again. Returns an assigned one, if any: one of a set outside of `ranges`, or
 * one of a service or a gateway outside of `serviceRanges`.
 */
export async function dropAddressesOutside(
  q: Queryable,
  subnetId: string,
  ranges: readonly OffsetRange[],
  serviceRanges = ranges,
): Promise<HeldAddress | undefined> {
  const isOutside = (some: readonly OffsetRange[]) => sql`a.subnet_id = ${subnetId}
    and not ${toMultirange(some)}::int8multirange @> (a.address - host(b.cidr)::inet)`;
  await q.execute(
    sql`with gone as (
          delete from addresses a using subnets b where b.id = a.subnet_id and a.state = 'quarantined' and ${isOutside(ranges)} returning 1
        )
        update subnets set unavailable = unavailable - (select count(*) from gone) where id = ${subnetId}`,
  );
  const rows = await queryRows<HeldAddress>(
    q,
    sql`select host(a.address) as address, coalesce(a.set_id, a.unknown_set_id) as "setId", v.name as service
        from addresses a join subnets b on b.id = a.subnet_id
          left join sets s on s.id = a.set_id left join services v on v.id = coalesce(a.service_id, s.service_id)
        where a.state = 'assigned' and ((coalesce(a.service_id, a.gateway_host_id) is null and ${isOutside(ranges)})
          or (coalesce(a.service_id, a.gateway_host_id) is not null and ${isOutside(serviceRanges)}))
        order by a.address limit 1`,
  );
  return rows[0];
}

/** Postgres searches a multirange by bisection. The lock is held until the last address. */
function toMultirange(ranges: readonly OffsetRange[]): string {
  return `{${ranges.map(([first, last]) => `[${first},${last}]`).join(",")}}`;
}

/** Names one set with an address of a network, or undefined. */
export async function findSetOfNetwork(
  q: Queryable,
  networkId: string,
): Promise<string | undefined> {
  const rows = await queryRows<{ setId: string }>(
    q,
    sql`select coalesce(a.set_id, a.unknown_set_id) as "setId" from subnets b join addresses a on a.subnet_id = b.id and a.state = 'assigned'
        where b.network_id = ${networkId} and coalesce(a.service_id, a.gateway_host_id) is null order by a.address limit 1`,
  );
  return rows[0]?.setId;
}

/** Finds the name of a host that is a gateway of a network. Undefined without one. */
export async function findGatewayOfNetwork(
  q: Queryable,
  networkId: string,
): Promise<string | undefined> {
  const rows = await queryRows<{ name: string }>(
    q,
    sql`select h.name from subnets b join addresses a on a.subnet_id = b.id and a.state = 'assigned' join hosts h on h.id = a.gateway_host_id
        where b.network_id = ${networkId} order by h.name limit 1`,
  );
  return rows[0]?.name;
}
