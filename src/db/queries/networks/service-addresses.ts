import { sql } from "drizzle-orm";
import { SERVICE_MAC } from "../../../contracts/common/mac-address.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isAssignableSql } from "./addresses.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import type { SearchCursor } from "./assign-addresses.ts";
import {
  hasNetworkedHostSql,
  selectTemplateNetworks,
  type TemplateNetwork,
} from "./template-networks.ts";
import { allAddressesUnknownSql } from "./unknown-addresses.ts";

/** SQL condition: service `v` is live and may lack an address. Uses services_unaddressed. */
const isUnaddressedSql = sql`v.deleted_at is null and not v.deleting and v.addressed_revision is distinct from v.revision`;

/**
 * Lists services after `after` that may lack addresses, by id. With `isLacking`, lists those that
 * found no free address, otherwise all others. Empty without a networked host, and while hosts have
 * not reported their addresses after a restore.
 */
export async function listUnaddressedServices(
  q: Queryable,
  { after, isLacking, limit }: { after: string; isLacking: boolean; limit: number },
): Promise<string[]> {
  const lacking = sql`v.unaddressed_revision is not distinct from v.revision`;
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select v.id from services v where ${hasNetworkedHostSql} and not ${allAddressesUnknownSql} and ${isUnaddressedSql} and v.id > ${after}
          and ${isLacking ? lacking : sql`not (${lacking})`} order by v.id limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/** A locked service, with the networks of its current revision. */
export interface ServiceToAddress {
  id: string;
  tenantId: string;
  name: string;
  /** An event has already reported that a network of this revision had no free address. */
  isReported: boolean;
  networks: TemplateNetwork[];
  /** The addresses that it has, also in other networks. */
  held: { networkId: string; subnetId: string }[];
}

/** Locks those of the services that are live and that no other transaction has locked. */
export async function claimServicesToAddress(
  q: Queryable,
  ids: readonly string[],
): Promise<ServiceToAddress[]> {
  return queryRows(
    q,
    sql`with locked as materialized (
          select v.id, v.tenant_id, v.name, v.revision, v.unaddressed_revision is not distinct from v.revision as is_reported
          from services v where v.id = ${anyOf(ids)} and ${isUnaddressedSql} order by v.id for no key update skip locked
        )
        select l.id, l.tenant_id as "tenantId", l.name, l.is_reported as "isReported",
          ${selectTemplateNetworks({ tenantId: sql`l.tenant_id`, serviceId: sql`l.id` }, sql`r.template->'networks'`)} as networks,
          (select coalesce(json_agg(json_build_object('networkId', b.network_id, 'subnetId', b.id)), '[]')
            from addresses a join subnets b on b.id = a.subnet_id where a.service_id = l.id and a.state = 'assigned') as held
        from locked l join revisions r on r.service_id = l.id and r.number = l.revision order by l.id`,
  );
}

export interface PreviousServiceAddress {
  serviceId: string;
  subnetId: string;
  address: string;
}

/** Finds the quarantined addresses that these services had in locked subnets. */
export async function findPreviousServiceAddresses(
  q: Queryable,
  serviceIds: readonly string[],
  subnetIds: readonly string[],
): Promise<PreviousServiceAddress[]> {
  return queryRows(
    q,
    sql`select service_id as "serviceId", subnet_id as "subnetId", host(address) as address from addresses
        where service_id = ${anyOf(serviceIds)} and subnet_id = ${anyOf(subnetIds)} and state = 'quarantined'`,
  );
}

/** An address for a locked service. */
export interface ChosenServiceAddress extends PreviousServiceAddress {
  networkId: string;
  /** The service had it before, and it is still quarantined. */
  isReused: boolean;
}

/**
 * Stores addresses of locked services in locked subnets. A violated key fails the transaction: no
 * address has two holders.
 */
export async function insertServiceAddresses(
  q: Queryable,
  chosen: readonly ChosenServiceAddress[],
  cursors: readonly SearchCursor[],
): Promise<void> {
  if (chosen.length === 0) return;
  await q.execute(
    sql`with chosen as materialized (
          select * from json_to_recordset(${JSON.stringify(chosen)}::json) as c("serviceId" text, "subnetId" text, address inet, "isReused" boolean)
        ), added as (
          insert into addresses (subnet_id, address, service_id, mac)
          select "subnetId", address, "serviceId", ${SERVICE_MAC} from chosen where not "isReused" returning subnet_id
        ), reused as (
          update addresses a set state = 'assigned', quarantined_at = null from chosen c
          where c."isReused" and a.subnet_id = c."subnetId" and a.address = c.address and a.service_id = c."serviceId"
        )
        update subnets s set unavailable = s.unavailable + (select count(*) from added where subnet_id = s.id), last_offset = n."lastOffset"
        from json_to_recordset(${JSON.stringify(cursors)}::json) as n("subnetId" text, "lastOffset" bigint)
        where s.id = n."subnetId"`,
  );
}

/**
 * Quarantines addresses of locked services in networks that their templates no longer name. An
 * address stays while a set of the service has one in the subnet. Returns the networks of those
 * that it quarantined.
 */
export async function quarantineServiceAddresses(
  q: Queryable,
  unwanted: readonly { serviceId: string; subnetId: string }[],
): Promise<string[]> {
  if (unwanted.length === 0) return [];
  const rows = await queryRows<{ networkId: string }>(
    q,
    sql`update addresses a set state = 'quarantined', quarantined_at = now()
        from json_to_recordset(${JSON.stringify(unwanted)}::json) as u("serviceId" text, "subnetId" text) join subnets b on b.id = u."subnetId"
        where a.service_id = u."serviceId" and a.subnet_id = u."subnetId" and a.state = 'assigned' and not ${hasSetInSubnetSql}
        returning b.network_id as "networkId"`,
  );
  return rows.map(({ networkId }) => networkId);
}

/** SQL condition: the service of address `a` has a set with an address in the same subnet. */
const hasSetInSubnetSql = sql`exists (select 1 from sets s join addresses x on x.set_id = s.id and x.subnet_id = a.subnet_id
  where s.service_id = a.service_id and s.deleted_at is null and x.state = 'assigned')`;

/** Stores which locked services have all their addresses, and which found no free one. */
export async function markAddressed(
  q: Queryable,
  { complete, lacking }: { complete: readonly string[]; lacking: readonly string[] },
): Promise<void> {
  if (complete.length > 0)
    await q.execute(
      sql`update services set addressed_revision = revision, unaddressed_revision = null where id = ${anyOf(complete)}`,
    );
  if (lacking.length > 0)
    await q.execute(
      sql`update services set unaddressed_revision = revision where id = ${anyOf(lacking)}`,
    );
}

/**
 * Checks at most `limit` live services after `after`. It marks those for a new assignment that
 * lack an address, or that have one in a network that they have left. A change of the subnets of
 * a network causes the first. Returns the last service, or undefined after the last one, and
 * without a networked host. It does not wait for locked services.
 */
export async function auditServiceAddresses(
  q: Queryable,
  after: string,
  limit: number,
): Promise<{ last: string | undefined; marked: number }> {
  const isTemplateNetwork = sql`n.tenant_id = p.tenant_id and r.template->'networks' @> jsonb_build_array(jsonb_build_object('network', n.name))`;
  const [row] = await queryRows<{ last: string | null; marked: number }>(
    q,
    sql`with page as materialized (
          select v.id, v.tenant_id, v.revision from services v
          where ${hasNetworkedHostSql} and v.deleted_at is null and not v.deleting and v.id > ${after} order by v.id limit ${limit}
        ), wrong as materialized (
          select p.id from page p join revisions r on r.service_id = p.id and r.number = p.revision
          where exists (select 1 from networks n join subnets b on b.network_id = n.id
                where ${isTemplateNetwork} and not exists (select 1 from addresses a
                  where a.service_id = p.id and a.subnet_id = b.id and a.state = 'assigned'))
            or exists (select 1 from addresses a join subnets b on b.id = a.subnet_id join networks n on n.id = b.network_id
                where a.service_id = p.id and a.state = 'assigned' and not (${isTemplateNetwork}) and not ${hasSetInSubnetSql})
        ), marked as (
          update services set addressed_revision = null where id in (
            select v.id from services v where v.id in (select id from wrong) and v.addressed_revision is not null
            order by v.id for no key update skip locked)
          returning 1
        )
        select (select max(id) from page having count(*) = ${limit}) as last, (select count(*)::int from marked) as marked`,
  );
  return { last: row?.last ?? undefined, marked: row?.marked ?? 0 };
}

/** An address that a service had, by the report of a host. */
export interface LostServiceAddress {
  serviceId: string;
  networkId: string;
  address: string;
}

const lostServiceAddresses = (reported: readonly LostServiceAddress[]) =>
  sql`json_to_recordset(${JSON.stringify(reported)}::json) as w("serviceId" text, "networkId" text, address inet)
    join subnets b on b.network_id = w."networkId" and ${isAssignableSql(sql`w.address`)}
      and not exists (select 1 from addresses a where a.subnet_id = b.id and a.address = w.address)
      and not exists (select 1 from addresses o where o.subnet_id = b.id and o.service_id = w."serviceId")`;

/**
 * Lists those of the reported addresses that no set and no service has or had until recently. All
 * hosts of a network report the same, so a report has few that the previous ones did not have.
 */
export async function listLostServiceAddresses(
  q: Queryable,
  reported: readonly LostServiceAddress[],
): Promise<LostServiceAddress[]> {
  if (reported.length === 0) return [];
  return queryRows(
    q,
    sql`select w."serviceId", w."networkId", host(w.address) as address from ${lostServiceAddresses(reported)}`,
  );
}

/**
 * Quarantines reported addresses in locked subnets, as if their services had just left. Only the
 * same service gets one of them earlier, if the database has it.
 */
export async function quarantineLostServiceAddresses(
  q: Queryable,
  reported: readonly LostServiceAddress[],
): Promise<void> {
  if (reported.length === 0) return;
  await q.execute(
    sql`with added as (
          insert into addresses (subnet_id, address, service_id, mac, state, quarantined_at)
          select distinct on (b.id, w."serviceId") b.id, w.address, w."serviceId", ${SERVICE_MAC}, 'quarantined', now()
          from ${lostServiceAddresses(reported)} order by b.id, w."serviceId", w.address
          on conflict do nothing returning subnet_id
        )
        update subnets s set unavailable = s.unavailable + c.count
        from (select subnet_id, count(*) from added group by subnet_id) c where s.id = c.subnet_id`,
  );
}
