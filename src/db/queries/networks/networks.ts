import { and, count, eq, sql } from "drizzle-orm";
import type { Network, Subnet } from "../../../contracts/api/networks.ts";
import type { CheckedSubnet } from "../../../contracts/api/check-subnets.ts";
import type { OffsetRange } from "../../../contracts/common/subnet-addresses.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { networks } from "../../schema/networks.ts";
import { anyOf, isoTime, queryRows, readByKey } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

/** VNIs that an insertion tries. Few are in use, so nearly always it tries one. */
const VNIS_TRIED_MAX = 1_000;

/** A subnet to store, with the addresses that Berth may assign. */
export interface NewSubnet extends CheckedSubnet {
  id: string;
  ranges: readonly OffsetRange[];
  usable: number;
}

export interface NewNetwork {
  id: string;
  tenantId: string;
  name: string;
  subnets: readonly NewSubnet[];
}

/**
 * Inserts networks with their subnets. Returns the ids of those that it inserted: not those whose
 * names their tenants already have, and not those without a free VNI.
 */
export async function insertNetworks(
  q: Queryable,
  added: readonly NewNetwork[],
): Promise<string[]> {
  if (added.length === 0) return [];
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with wanted as (
          select * from json_to_recordset(${JSON.stringify(added)}::json) as w(id text, "tenantId" text, name text, subnets json)
        ), inserted as (
          insert into networks (id, tenant_id, name, vni)
          select w.id, w."tenantId", w.name, free.vni from wanted w cross join lateral (
            select n as vni from (select nextval('network_vnis')::int as n
              from generate_series(1, ${sql.raw(String(VNIS_TRIED_MAX))}) where w.id <> '' offset 0) tried
            where not exists (select 1 from networks used where used.vni = n) limit 1) free
          order by w."tenantId", w.name on conflict (tenant_id, name) do nothing returning id
        ), with_subnets as (
          insert into subnets (id, network_id, family, cidr, gateway, pools, reservations, ranges, usable)
          select s.id, i.id, s.family, s.cidr, s.gateway, s.pools, s.reservations, s.ranges, s.usable
          from inserted i join wanted w on w.id = i.id cross join lateral ${subnetRecords(sql`w.subnets`)}
        )
        select id from inserted`,
  );
  return rows.map(({ id }) => id);
}

const subnetRecords = (json: ReturnType<typeof sql>) => sql`json_to_recordset(${json})
  as s(id text, family smallint, cidr cidr, gateway inet, pools jsonb, reservations jsonb, ranges jsonb, usable bigint)`;

/** A network whose row the transaction has locked. */
export interface NetworkRow {
  id: string;
  name: string;
  generation: number;
}

/**
 * Locks a network of a tenant. A deletion also excludes transactions that insert references to it.
 */
export async function lockNetwork(
  q: Queryable,
  tenantId: string,
  name: string,
  isDeletion = false,
): Promise<NetworkRow | undefined> {
  const rows = await q
    .select({ id: networks.id, name: networks.name, generation: networks.generation })
    .from(networks)
    .where(and(eq(networks.tenantId, tenantId), eq(networks.name, name)))
    .for(isDeletion ? "update" : "no key update");
  return rows[0];
}

/** Lists those of the networks that exist, and locks them against their deletion if asked. */
export async function listNetworkNames(
  q: Queryable,
  tenantId: string,
  names: readonly string[],
  isLocking: boolean,
): Promise<string[]> {
  const named = q
    .select({ name: networks.name })
    .from(networks)
    .where(and(eq(networks.tenantId, tenantId), eq(networks.name, anyOf(names))))
    .orderBy(networks.id);
  const rows = await (isLocking ? named.for("key share") : named);
  return rows.map(({ name }) => name);
}

export async function hasNetwork(q: Queryable, tenantId: string, name: string): Promise<boolean> {
  const rows = await readByKey<unknown>(
    q,
    sql`select 1 from networks where tenant_id = ${tenantId} and name = ${name}`,
  );
  return rows.length > 0;
}

export async function countNetworks(q: Queryable, tenantId: string): Promise<number> {
  const rows = await q
    .select({ total: count() })
    .from(networks)
    .where(eq(networks.tenantId, tenantId));
  return rows[0]?.total ?? 0;
}

/** The stored facts of a subnet that a change compares. */
export interface SubnetRow {
  id: string;
  family: 4 | 6;
  cidr: string;
  gateway: string;
  unavailable: number;
}

/** Locks the subnets of a network in id order. No other transaction assigns their addresses. */
export async function lockSubnetsOf(q: Queryable, networkId: string): Promise<SubnetRow[]> {
  return queryRows(
    q,
    sql`select id, family, cidr::text as cidr, host(gateway) as gateway, unavailable::float8 as unavailable
        from subnets where network_id = ${networkId} order by id for no key update`,
  );
}

/**
 * Stores the subnets of a locked network, and increments its generation. It inserts those with new
 * ids, changes the others, and deletes those that are not in the list.
 */
export async function replaceSubnets(
  q: Queryable,
  networkId: string,
  subnets: readonly NewSubnet[],
): Promise<void> {
  const json = sql`${JSON.stringify(subnets)}::json`;
  await q.execute(
    sql`delete from subnets where network_id = ${networkId}
        and id not in (select s.id from ${subnetRecords(json)})`,
  );
  await q.execute(
    sql`with bumped as (update networks set generation = generation + 1 where id = ${networkId})
        insert into subnets (id, network_id, family, cidr, gateway, pools, reservations, ranges, usable)
        select s.id, ${networkId}, s.family, s.cidr, s.gateway, s.pools, s.reservations, s.ranges, s.usable
        from ${subnetRecords(json)}
        on conflict (id) do update set gateway = excluded.gateway, pools = excluded.pools,
          reservations = excluded.reservations, ranges = excluded.ranges, usable = excluded.usable`,
  );
}

/** A subnet of a named network, with the addresses that Berth may assign. */
export interface SubnetRanges {
  network: string;
  cidr: string;
  ranges: OffsetRange[];
}

/** Lists the subnets of networks: at most two of each. */
export async function listSubnetRanges(
  q: Queryable,
  tenantId: string,
  names: readonly string[],
): Promise<SubnetRanges[]> {
  return queryRows(
    q,
    sql`select n.name as network, b.cidr::text as cidr, b.ranges
        from networks n join subnets b on b.network_id = n.id
        where n.tenant_id = ${tenantId} and n.name = ${anyOf(names)} order by n.name, b.family`,
  );
}

/** Deletes a locked network with its subnets and their quarantined addresses. */
export async function deleteNetworkRow(q: Queryable, networkId: string): Promise<void> {
  await q.delete(networks).where(eq(networks.id, networkId));
}

/**
 * Names at most `limit` services of which the current or target revision, or that of a set, uses a
 * network by this name. A template that names no network uses the default one. A deleted service
 * counts while a lost host has a set of it.
 */
export async function listServicesOfNetwork(
  q: Queryable,
  tenantId: string,
  name: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(
    q,
    sql`select s.name from services s where s.tenant_id = ${tenantId}
          and (s.deleted_at is null or exists (select 1 from sets l where l.service_id = s.id and l.deleted_at is null))
          and exists (select 1 from revisions r where r.service_id = s.id and r.template->'networks' @> ${JSON.stringify([{ network: name }])}::jsonb
            and (r.number in (s.revision, s.target_revision)
              or exists (select 1 from sets x where x.service_id = s.id and x.revision = r.number and x.deleted_at is null)))
        order by s.name limit ${limit}`,
  );
  return rows.map((row) => row.name);
}

type NetworkReadRow = Omit<Network, "subnets" | "createdAt"> & {
  subnets: Subnet[];
  createdAt: string | Date;
};

/** `condition` selects networks `n` with their tenants `t`. */
const selectNetworks = sql`
  select n.id, t.name as tenant, n.name, n.generation::float8 as generation, n.vni, n.created_at as "createdAt",
    (select coalesce(json_agg(json_build_object('id', b.id, 'family', b.family, 'cidr', b.cidr::text, 'gateway', host(b.gateway),
        'pools', b.pools, 'reservations', b.reservations, 'addresses', json_build_object('usable', b.usable,
          'assigned', b.unavailable - c.quarantined, 'quarantined', c.quarantined, 'free', b.usable - b.unavailable)) order by b.family), '[]')
      from subnets b cross join lateral (select count(*) as quarantined from addresses a
        where a.subnet_id = b.id and a.state = 'quarantined') c
      where b.network_id = n.id) as subnets
  from networks n join tenants t on t.id = n.tenant_id`;

/** Lists networks of a tenant, or of all tenants, after `afterId`, the oldest first. */
export async function listNetworks(
  q: Queryable,
  tenantId: string | null,
  afterId: string | undefined,
  limit: number,
): Promise<Network[]> {
  const rows = await queryRows<NetworkReadRow>(
    q,
    sql`${selectNetworks} where n.id > ${afterId ?? ""} and ${inScope(sql`n.tenant_id`, tenantId)} order by n.id limit ${limit}`,
  );
  return rows.map(toNetwork);
}

export async function findNetwork(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<Network | undefined> {
  const rows = await queryRows<NetworkReadRow>(
    q,
    sql`${selectNetworks} where n.tenant_id = ${tenantId} and n.name = ${name}`,
  );
  return rows.map(toNetwork)[0];
}

function toNetwork(row: NetworkReadRow): Network {
  return { ...row, createdAt: isoTime(row.createdAt) };
}
