import { type SQL, sql } from "drizzle-orm";
import {
  GATEWAYS_FEATURE,
  NETWORKS_FEATURE,
  PUBLISHING_FEATURE,
} from "../../../contracts/agent-protocol/agent-features.ts";

/** The features of a host that can publish services: a JSON array. */
export const gatewayFeatures = sql.raw(
  `'${JSON.stringify([NETWORKS_FEATURE, PUBLISHING_FEATURE, GATEWAYS_FEATURE])}'`,
);

/**
 * The ports that services want at gateways: `gateways` is a source of hosts `g`. A tenant gets only
 * gateways in pools of its grants. `sets` is the desired number of sets. It reads each service
 * once, whatever the number of gateways.
 *
 * The port has the protocol of the current revision, or of the target revision if only that one has
 * the port. The network is that of the current revision.
 */
export const wantedPortsSql = (
  gateways: SQL,
): SQL => sql`select g.id as host_id, p.protocol, (e.entry->>'gatewayPort')::int as port, v.id as service_id, v.tenant_id,
    v.desired_replicas as sets, net.network_id, net.subnet_id, e.entry->>'port' as name, g.gateway_group
  from services v join revisions c on c.service_id = v.id and c.number = v.revision
  cross join lateral jsonb_array_elements(v.gateway_ports) as e(entry)
  cross join lateral (select named.port->>'protocol' as protocol
    from revisions r cross join lateral jsonb_array_elements(r.template->'ports') as named(port)
    where r.service_id = v.id and r.number in (v.revision, coalesce(v.target_revision, v.revision)) and named.port->>'name' = e.entry->>'port'
    order by r.number <> v.revision limit 1) p
  cross join lateral (select n.id as network_id, b.id as subnet_id
    from jsonb_array_elements(c.template->'networks') with ordinality named(entry, place)
      join networks n on n.tenant_id = v.tenant_id and n.name = named.entry->>'network'
      join subnets b on b.network_id = n.id and b.family = 4
    order by named.place limit 1) net
  join ${gateways} on g.gateway_group = e.entry->>'gatewayGroup'
  join tenants t on t.id = v.tenant_id and (t.grants->'pools' @> '["*"]' or t.grants->'pools' @> jsonb_build_array(g.pool))
  where v.gateway_ports is not null and v.deleted_at is null and not v.deleting`;
