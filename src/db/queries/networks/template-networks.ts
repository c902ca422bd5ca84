import { type SQL, sql } from "drizzle-orm";
import type { SetTemplate } from "../../../contracts/api/set-template.ts";
import type { Attachment } from "../../../contracts/agent-protocol/attachment.ts";
import { NETWORKS_FEATURE } from "../../../contracts/agent-protocol/agent-features.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import type { AddressFault } from "../../../contracts/api/networks.ts";
import { isAssignableSql } from "./addresses.ts";
import { addressesUnknownSql } from "./unknown-addresses.ts";
import { anyOf, queryRows, readByKey } from "../runtime/query.ts";

/** A network of a template, as the tenant has it. */
export interface TemplateNetwork {
  network: string;
  /** Null if the tenant has no network of this name. */
  networkId: string | null;
  subnets: TemplateSubnet[];
  /** Why no set can get an address of the network now. Null if nothing prevents it. */
  fault: AddressFault | null;
}

export interface TemplateSubnet {
  id: string;
  family: 4 | 6;
  free: number;
  /** The static address of the template in this subnet. */
  address: string | null;
}

const features = sql.raw(`'["${NETWORKS_FEATURE}"]'`);

/**
 * SQL condition: a host is networked. Postgres evaluates it once in a statement. Uses
 * hosts_networked.
 */
export const hasNetworkedHostSql = sql`exists (select 1 from hosts where capabilities->'features' @> ${features})`;

/**
 * A list of TemplateNetwork, in the order of the template's networks. A static address is taken
 * unless no row has it, or a set of the same service has left it.
 */
export function selectTemplateNetworks(
  { tenantId, serviceId }: { tenantId: SQL; serviceId: SQL },
  networks: SQL,
): SQL {
  const isStatic = sql`named.entry ? 'address'`;
  const address = sql`(named.entry->>'address')::inet`;
  return sql`(select coalesce(json_agg(json_build_object('network', named.entry->>'network', 'networkId', n.id,
      'fault', case when ${addressesUnknownSql(sql`n.id`)} then 'addresses-unknown'
        when ${isStatic} and not exists (select 1 from subnets b where b.network_id = n.id and ${isAssignableSql(address)}
          and not exists (select 1 from addresses a where a.subnet_id = b.id and a.address = ${address} and not ${hasLeftSql(serviceId)}))
        then 'address-taken' end,
      'subnets',
      (select coalesce(json_agg(json_build_object('id', b.id, 'family', b.family, 'free', b.usable - b.unavailable,
          'address', case when ${isStatic} and ${address} << b.cidr then host(${address}) end) order by b.family), '[]')
        from subnets b where b.network_id = n.id)) order by named.place), '[]')
    from jsonb_array_elements(${networks}) with ordinality named(entry, place)
      left join networks n on n.tenant_id = ${tenantId} and n.name = named.entry->>'network')`;
}

/**
 * Lists the attachments of sets, by set. The agent gets them even if it cannot connect sets. A host
 * that could do so got the set, so its agent was rolled back, and must not start the set without
 * them. Uses addresses_set_subnet_unique.
 */
export async function listSetAttachments(
  q: Queryable,
  setIds: readonly string[],
): Promise<Map<string, Attachment[]>> {
  if (setIds.length === 0) return new Map();
  const rows = await readByKey<{ setId: string; attachments: Attachment[] }>(
    q,
    sql`select set_id as "setId", json_agg(entry order by network_index) as attachments from (
          select a.set_id, a.network_index, json_build_object('networkId', n.id, 'vni', n.vni,
            'interface', 'eth' || a.network_index, 'mac', min(a.mac),
            'addresses', json_agg(host(a.address) || '/' || masklen(b.cidr) order by b.family),
            'gateways', json_agg(host(b.gateway) order by b.family)) as entry
          from addresses a join subnets b on b.id = a.subnet_id join networks n on n.id = b.network_id
          where a.set_id = ${anyOf(setIds)} and a.state = 'assigned'
          group by a.set_id, a.network_index, n.id) each
        group by set_id`,
  );
  return new Map(rows.map(({ setId, attachments }) => [setId, attachments]));
}

/** SQL condition: the address `a` is quarantined, and a set of the service had it last. */
export const hasLeftSql = (serviceId: SQL) => sql`(a.state = 'quarantined'
  and exists (select 1 from sets z where z.id = a.set_id and z.service_id = ${serviceId}))`;

/** Lists the networks of a template of a service. Null without a networked host. */
export async function listTemplateNetworks(
  q: Queryable,
  { tenantId, serviceId }: { tenantId: string; serviceId: string },
  networks: SetTemplate["networks"],
): Promise<TemplateNetwork[] | null> {
  const networksSql = selectTemplateNetworks(
    { tenantId: sql`${tenantId}`, serviceId: sql`${serviceId}` },
    sql`${JSON.stringify(networks)}::jsonb`,
  );
  const [row] = await queryRows<{ networks: TemplateNetwork[] | null }>(
    q,
    sql`select case when ${hasNetworkedHostSql} then ${networksSql} end as networks`,
  );
  return row?.networks ?? null;
}
