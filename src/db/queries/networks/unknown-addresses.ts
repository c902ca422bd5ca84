import { type SQL, sql } from "drizzle-orm";
import { ADDRESS_REPORTS_FEATURE } from "../../../contracts/agent-protocol/agent-features.ts";
import type { SetAddresses } from "../../../contracts/agent-protocol/address-report.ts";
import { SETS_PER_HOST_MAX } from "../../../contracts/agent-protocol/protocol.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import type { UnknownHostPort } from "../placement/host-ports.ts";
import { queryRows } from "../runtime/query.ts";
import { isAssignableSql } from "./addresses.ts";
import { listNetworksOnHost } from "./host-networks.ts";

/**
 * Agents report within a minute of a restore. Berth waits this long for a lost host, which may
 * still run: its state is that of the backup.
 */
const LOST_HOST_WAIT = sql.raw("interval '2 minutes'");
/** A bound, so that one faulty agent does not stop the placements of the fleet. */
const HOST_WAIT_MAX = sql.raw("interval '10 minutes'");
/** Agents answer within seconds of their report of unknown sets. */
const UNKNOWN_SETS_WAIT = sql.raw("interval '2 minutes'");
/** A host that always reports other unknown sets delays sets of its networks only this often. */
const UNKNOWN_SETS_WAIT_EVERY = sql.raw("interval '1 hour'");

/** SQL condition: the agent of host `u` reports addresses. Berth neither asks nor awaits others. */
const reportsAddressesSql = sql.raw(`u.capabilities->'features' ? '${ADDRESS_REPORTS_FEATURE}'`);

/** SQL condition: the next answer requests the addresses of the sets of host `hosts`. */
export const addressesRequestedSql = sql.raw(
  `hosts.addresses_unknown_since is not null and coalesce(hosts.capabilities->'features' ? '${ADDRESS_REPORTS_FEATURE}', false)`,
);

/**
 * SQL condition: Berth assigns no address of any network now, because hosts have not reported since
 * a restore which addresses their sets have. Postgres evaluates it once in a statement. Uses
 * hosts_addresses_unknown.
 */
export const allAddressesUnknownSql = sql`exists (select 1 from hosts u
  where ${reportsAddressesSql} and u.addresses_awaited_since is null
    and u.addresses_unknown_since > now() - case when u.state = 'lost' then ${LOST_HOST_WAIT} else ${HOST_WAIT_MAX} end)`;

/**
 * SQL condition: Berth assigns no address of this network now. It waits for all hosts, or for one
 * that has sets of the network and has reported unknown sets. Such a report delays no other
 * network, because a faulty agent must not stop the placements of the fleet.
 */
export const addressesUnknownSql = (networkId: SQL): SQL => sql`(${allAddressesUnknownSql}
  or ${networkId} = any(array(select b.network_id from hosts u join sets s on s.host_id = u.id
    join addresses a on a.set_id = s.id and a.state = 'assigned' join subnets b on b.id = a.subnet_id
    where ${reportsAddressesSql} and u.addresses_unknown_since is not null and u.addresses_awaited_since > now() - ${UNKNOWN_SETS_WAIT})))`;

/** Records that the database may lack addresses of all hosts, because it was restored. */
export async function noteAllAddressesUnknown(q: Queryable): Promise<void> {
  await q.execute(
    sql`update hosts set addresses_unknown_since = now(), addresses_awaited_since = null`,
  );
}

/**
 * Records that the database may lack addresses of a host that reports unknown sets. It prolongs no
 * wait, and begins one only if the previous report that did so is an hour old.
 */
export async function noteUnknownAddresses(q: Queryable, hostId: string): Promise<void> {
  await q.execute(
    sql`update hosts set addresses_unknown_since = coalesce(addresses_unknown_since, now()),
          addresses_awaited_since = case
            when addresses_unknown_since is not null or addresses_awaited_since > now() - ${UNKNOWN_SETS_WAIT_EVERY} then addresses_awaited_since
            else now() end
        where id = ${hostId}`,
  );
}

/** A request for the addresses of a host. */
export interface AddressRequest {
  hostId: string;
  /** Berth requested the addresses of all hosts. */
  isAfterRestore: boolean;
}

const requestColumns = sql.raw(
  `id as "hostId", addresses_awaited_since is null as "isAfterRestore"`,
);

/** Finds the request for the addresses of a host. Undefined without one. */
export async function findAddressRequest(
  q: Queryable,
  hostId: string,
): Promise<AddressRequest | undefined> {
  const [row] = await queryRows<AddressRequest>(
    q,
    sql`select ${requestColumns} from hosts where id = ${hostId} and ${addressesRequestedSql}`,
  );
  return row;
}

/** Ends the request for the addresses of a host. Undefined if it has no request. */
export async function endAddressRequest(
  q: Queryable,
  hostId: string,
): Promise<AddressRequest | undefined> {
  const [row] = await queryRows<AddressRequest>(
    q,
    sql`update hosts set addresses_unknown_since = null where id = ${hostId} and ${addressesRequestedSql}
        returning ${requestColumns}`,
  );
  return row;
}

/** An address of a set on a host that the database does not know. */
export interface UnknownAddress {
  setId: string;
  networkId: string;
  networkIndex: number;
  mac: string;
  address: string;
}

/** The claims that a host may make for sets that the database does not know. */
export interface PermittedClaims {
  addresses: UnknownAddress[];
  hostPorts: UnknownHostPort[];
}

/**
 * Selects the addresses and host ports that a host may claim. A faulty or compromised agent can
 * report any:
 *
 * - The database has the set on no other live host, and has not deleted it.
 * - Unless Berth was restored, the database has a set of an address's network on the host.
 * - The sets of the host with claims, also quarantined ones, are as many as a host can have.
 *
 * Uses sets_pkey, addresses_unknown, sets_host and host_ports_pkey.
 */
export async function listPermittedClaims(
  q: Queryable,
  { hostId, isAfterRestore }: AddressRequest,
  reported: readonly SetAddresses[],
): Promise<PermittedClaims> {
  const networkIds = isAfterRestore ? undefined : new Set(await listNetworksOnHost(q, hostId));
  const addresses = reported.flatMap(({ setId, networks }) =>
    networks.flatMap(({ networkId, mac, addresses }, networkIndex) =>
      networkIds === undefined || networkIds.has(networkId)
        ? addresses.map((address) => ({ setId, networkId, networkIndex, mac, address }))
        : [],
    ),
  );
  const hostPorts = reported.flatMap(({ setId, hostPorts: ports = [] }) =>
    ports.map((port) => ({ setId, ...port })),
  );
  const setIds = [...new Set([...addresses, ...hostPorts].map(({ setId }) => setId))];
  const rows = await queryRows<{ setId: string }>(
    q,
    sql`with claimed as materialized (
          select distinct unknown_set_id as id from addresses where unknown_host_id = ${hostId} and unknown_set_id is not null
          union select set_id from host_ports where host_id = ${hostId} and name is null
        )
        select id as "setId" from (
          select u.id, c.id is not null as is_claimed, row_number() over (partition by c.id is not null order by u.id) as place
          from json_array_elements_text(${JSON.stringify(setIds)}::json) u(id) left join claimed c on c.id = u.id
            left join sets s on s.id = u.id left join hosts h on h.id = s.host_id
          where s.deleted_at is null and s.host_id is distinct from ${hostId} and coalesce(h.state, 'lost') = 'lost'
        ) each where is_claimed or place <= ${SETS_PER_HOST_MAX}::int - (select count(*) from claimed)`,
  );
  const claimable = new Set(rows.map(({ setId }) => setId));
  return {
    addresses: addresses.filter(({ setId }) => claimable.has(setId)),
    hostPorts: hostPorts.filter(({ setId }) => claimable.has(setId)),
  };
}

/**
 * Locks the subnets of these networks, before the host and before sets. No other transaction
 * assigns their addresses meanwhile.
 */
export async function lockSubnetsOfNetworks(
  q: Queryable,
  networkIds: readonly string[],
): Promise<void> {
  await q.execute(
    sql`select id from subnets where network_id in (select value from json_array_elements_text(${JSON.stringify(networkIds)}::json))
        order by id for no key update`,
  );
}

/** An address that an unknown set has, and that Berth has assigned to another holder. */
export interface AddressConflict {
  address: string;
  networkId: string;
  setId: string;
  /** The id of the other set, of the service, or of the gateway's host. */
  otherId: string;
}

/**
 * Claims addresses in locked subnets for unknown sets of a host: Berth gives them to no other set
 * while the host reports these sets. It omits addresses that a subnet no longer has or excludes,
 * because no set can get them. A set gets one address of a subnet, also in later reports.
 * Returns at most `limit` of those that others have.
 */
export async function claimUnknownAddresses(
  q: Queryable,
  hostId: string,
  addresses: readonly UnknownAddress[],
  limit: number,
): Promise<AddressConflict[]> {
  const wanted = sql`json_to_recordset(${JSON.stringify(addresses)}::json)
    as w("setId" text, "networkId" text, "networkIndex" smallint, mac text, address inet)`;
  await q.execute(
    sql`with claimed as (
          insert into addresses as a (subnet_id, address, unknown_set_id, unknown_host_id, network_index, mac)
          select distinct on (w."setId", b.id) b.id, w.address, w."setId", ${hostId}, w."networkIndex", w.mac
          from ${wanted} join subnets b on b.network_id = w."networkId" and ${isAssignableSql(sql`w.address`)}
          where not exists (select 1 from addresses o where o.unknown_host_id = ${hostId} and o.unknown_set_id = w."setId"
              and o.subnet_id = b.id and o.address <> w.address)
          order by w."setId", b.id, w."networkIndex", w.address
          on conflict (subnet_id, address) do update set state = 'assigned', quarantined_at = null, set_id = null, service_id = null, gateway_host_id = null, gateway_left_at = null,
            unknown_set_id = excluded.unknown_set_id, unknown_host_id = excluded.unknown_host_id,
            network_index = excluded.network_index, mac = excluded.mac
          where a.state = 'quarantined'
          returning subnet_id, xmax = 0 as is_new
        )
        update subnets s set unavailable = s.unavailable + c.count
        from (select subnet_id, count(*) from claimed where is_new group by subnet_id) c where s.id = c.subnet_id`,
  );
  return queryRows(
    q,
    sql`select host(a.address) as address, w."networkId", w."setId", coalesce(a.set_id, a.unknown_set_id, a.service_id, a.gateway_host_id) as "otherId"
        from ${wanted} join subnets b on b.network_id = w."networkId" join addresses a on a.subnet_id = b.id and a.address = w.address
        where a.state = 'assigned' and coalesce(a.set_id, a.unknown_set_id, a.service_id, a.gateway_host_id) <> w."setId" order by a.address limit ${limit}`,
  );
}
