import { type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { addressesUnknownSql } from "./unknown-addresses.ts";
import { isAssignableSql } from "./addresses.ts";
import { hasLeftSql } from "./template-networks.ts";
import { anyOf, queryRows, secondsAgo } from "../runtime/query.ts";

/** A subnet whose row the transaction has locked. */
export interface LockedSubnet {
  id: string;
  family: 4 | 6;
  cidr: string;
}

/**
 * Locks those of the subnets that no other transaction has locked: after hosts, and before sets.
 * Until the transaction ends, no other one assigns an address of them.
 *
 * It locks none while hosts have not reported the addresses of their sets: see addressesUnknownSql.
 *
 * It does not wait. The caller has locked hosts of many tenants, and a tenant can hold the locks of
 * its subnets, by changes of its networks.
 */
export async function claimSubnets(q: Queryable, ids: readonly string[]): Promise<LockedSubnet[]> {
  return queryRows(
    q,
    sql`select id, family, cidr::text as cidr from subnets where id = ${anyOf(ids)} and not ${addressesUnknownSql(sql`network_id`)}
        order by id for no key update skip locked`,
  );
}

/** The number of addresses that a transaction needs of a subnet. */
export interface WantedAddresses {
  subnetId: string;
  count: number;
}

export interface FreeOffsets {
  subnetId: string;
  /** In the order in which to assign them. */
  offsets: number[];
}

/**
 * Finds free addresses of locked subnets: at most `count` of each. It searches from the last
 * assigned address, so that a freed address is reused late.
 *
 * It scans the unavailable addresses in order and returns the gaps. So it reads few of them in a
 * subnet with many free addresses, and each at most once in a full one.
 */
export async function findFreeAddresses(
  q: Queryable,
  wanted: readonly WantedAddresses[],
): Promise<FreeOffsets[]> {
  return queryRows(
    q,
    sql`select w."subnetId", array_to_json(array(
          select (gap.first + n)::float8 from (
            select greatest((r->>0)::bigint, case turn when 1 then s.last_offset + 1 else 0 end) as first,
              case turn when 1 then (r->>1)::bigint else least((r->>1)::bigint, s.last_offset) end as last
            from (values (1), (2)) turns(turn) cross join jsonb_array_elements(s.ranges) with ordinality ranges(r, place)
            order by turn, place
          ) part cross join lateral (
            (select before + 1 as first, o - 1 as last from (
                select a.address - s.base as o, lag(a.address - s.base, 1, part.first - 1) over (order by a.address) as before
                from addresses a where a.subnet_id = s.id and a.address between s.base + part.first and s.base + part.last) unavailable
              where o - before > 1 limit w.count)
            union all
            (select coalesce((select a.address - s.base from addresses a where a.subnet_id = s.id
                and a.address between s.base + part.first and s.base + part.last order by a.address desc limit 1), part.first - 1) + 1, part.last)
          ) gap cross join lateral generate_series(0, least(gap.last - gap.first, w.count - 1)) n
          where part.first <= part.last limit w.count)) as offsets
        from json_to_recordset(${JSON.stringify(wanted)}::json) as w("subnetId" text, count int)
          join (select id, ranges, last_offset, host(cidr)::inet as base from subnets) s on s.id = w."subnetId"`,
  );
}

export interface QuarantinedAddress {
  setId: string;
  subnetId: string;
  address: string;
}

/** Finds the quarantined addresses that these sets had in locked subnets. */
export async function findPreviousAddresses(
  q: Queryable,
  setIds: readonly string[],
  subnetIds: readonly string[],
): Promise<QuarantinedAddress[]> {
  return queryRows(
    q,
    sql`select set_id as "setId", subnet_id as "subnetId", host(address) as address from addresses
        where set_id = ${anyOf(setIds)} and subnet_id = ${anyOf(subnetIds)} and state = 'quarantined'`,
  );
}

/** A static address that a set needs. */
export interface WantedStaticAddress {
  setId: string;
  subnetId: string;
  address: string;
}

/**
 * Finds those static addresses that their sets can get in locked subnets. No set has the address,
 * or one of the same service has left it. Then `isReused` is true.
 */
export async function findStaticAddresses(
  q: Queryable,
  wanted: readonly WantedStaticAddress[],
): Promise<(WantedStaticAddress & { isReused: boolean })[]> {
  if (wanted.length === 0) return [];
  return queryRows(
    q,
    sql`select w."setId", w."subnetId", host(w.address) as address, a.address is not null as "isReused"
        from json_to_recordset(${JSON.stringify(wanted)}::json) as w("setId" text, "subnetId" text, address inet)
          join subnets b on b.id = w."subnetId" and ${isAssignableSql(sql`w.address`)}
          left join sets s on s.id = w."setId"
          left join addresses a on a.subnet_id = w."subnetId" and a.address = w.address
        where a.address is null or (a.state = 'quarantined' and a.set_id = w."setId") or ${hasLeftSql(sql`s.service_id`)}`,
  );
}

/** Lists the subnets of which these sets have an address, by set. */
export async function listSubnetsOfSets(
  q: Queryable,
  setIds: readonly string[],
): Promise<Map<string, string[]>> {
  if (setIds.length === 0) return new Map();
  const rows = await queryRows<{ setId: string; subnetIds: string[] }>(
    q,
    sql`select set_id as "setId", array_to_json(array_agg(subnet_id)) as "subnetIds" from addresses
        where set_id = ${anyOf(setIds)} group by set_id`,
  );
  return new Map(rows.map(({ setId, subnetIds }) => [setId, subnetIds]));
}

/** An address for a set that the transaction places. */
export interface ChosenAddress {
  setId: string;
  hostId: string;
  networkId: string;
  subnetId: string;
  address: string;
  /** The position of the network in the template of the set, from 0. */
  networkIndex: number;
  mac: string;
  /** It is still quarantined: the set had it before, or a static address an earlier set. */
  isReused: boolean;
}

/** The offset after which the next search in a subnet begins. */
export interface SearchCursor {
  subnetId: string;
  lastOffset: number;
}

/**
 * Stores the addresses of the sets that this transaction has just placed, and skips sets that were
 * deleted meanwhile. A violated key fails the transaction: no address has two sets.
 */
export async function insertAddresses(
  q: Queryable,
  chosen: readonly ChosenAddress[],
  cursors: readonly SearchCursor[],
): Promise<void> {
  if (chosen.length === 0) return;
  await q.execute(
    sql`with placed as materialized (
          select c.* from json_to_recordset(${JSON.stringify(chosen)}::json) as c("setId" text, "hostId" text, "subnetId" text,
            address inet, "networkIndex" smallint, mac text, "isReused" boolean)
          join sets s on s.id = c."setId" and s.host_id = c."hostId" and s.state = 'placed' and s.placed_at = now()
        ), added as (
          insert into addresses (subnet_id, address, set_id, network_index, mac)
          select "subnetId", address, "setId", "networkIndex", mac from placed where not "isReused" returning subnet_id
        ), reused as (
          update addresses a set state = 'assigned', quarantined_at = null, set_id = p."setId", network_index = p."networkIndex", mac = p.mac
          from placed p where p."isReused" and a.subnet_id = p."subnetId" and a.address = p.address and a.state = 'quarantined'
        )
        update subnets s set unavailable = s.unavailable + c.count, last_offset = coalesce(n."lastOffset", s.last_offset)
        from (select subnet_id, count(*) from added group by subnet_id) c
          left join json_to_recordset(${JSON.stringify(cursors)}::json) as n("subnetId" text, "lastOffset" bigint) on n."subnetId" = c.subnet_id
        where s.id = c.subnet_id`,
  );
}

/**
 * SQL condition: no gateway still uses the quarantined address `a`. The gateway has confirmed
 * that before `time`, or it is deleted. A silent one may still answer at the address.
 */
const isUnusedByGatewaySql = (
  time: SQL,
): SQL => sql`(a.gateway_host_id is null or a.gateway_left_at < ${time}
  or not exists (select 1 from hosts h where h.id = a.gateway_host_id))`;

/**
 * Deletes addresses that were quarantined for longer than `seconds`, so that other sets can get
 * them. Returns how many: 0 only if none is left in subnets that no other transaction has locked.
 */
export async function deleteQuarantinedAddresses(
  q: Queryable,
  seconds: number,
  { addressesMax, subnetsMax }: { addressesMax: number; subnetsMax: number },
): Promise<number> {
  const time = secondsAgo(seconds);
  const isExpired = sql`a.state = 'quarantined' and a.quarantined_at < ${time} and ${isUnusedByGatewaySql(time)}`;
  const [row] = await queryRows<{ deleted: number }>(
    q,
    sql`with locked as materialized (
          select id from subnets where id in (select a.subnet_id from addresses a where ${isExpired})
          order by id for no key update skip locked limit ${subnetsMax}
        ), expired as materialized (
          select a.subnet_id, a.address from locked l join addresses a on a.subnet_id = l.id
          where ${isExpired} order by a.subnet_id, a.quarantined_at limit ${addressesMax}
        ), deleted as (
          delete from addresses a using expired e
          where a.subnet_id = e.subnet_id and a.address = e.address and ${isExpired} returning a.subnet_id
        ), counted as (
          update subnets s set unavailable = s.unavailable - d.count
          from (select subnet_id, count(*) from deleted group by subnet_id) d where s.id = d.subnet_id
        )
        select count(*)::int as deleted from deleted`,
  );
  return row?.deleted ?? 0;
}

export interface FreeAddressCount {
  tenant: string;
  network: string;
  family: 4 | 6;
  free: number;
}

/** Lists the subnets in use, fewest free addresses first. */
export async function listScarcestSubnets(
  q: Queryable,
  limit: number,
): Promise<FreeAddressCount[]> {
  return queryRows(
    q,
    sql`select t.name as tenant, n.name as network, b.family, (b.usable - b.unavailable)::float8 as free
        from subnets b join networks n on n.id = b.network_id join tenants t on t.id = n.tenant_id
        where b.unavailable > 0 order by b.usable - b.unavailable, b.id limit ${limit}`,
  );
}
