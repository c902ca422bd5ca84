import { sql } from "drizzle-orm";
import type { HostRule } from "../../../contracts/network-driver/host-rule.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/** The rules of a network in the form in which its hosts get them. */
export interface NetworkRules {
  networkId: string;
  /** Increases with each change of the rules. */
  rulesVersion: number;
  endConnectionsCount: number;
  /** The order is that of the ids. */
  rules: HostRule[];
}

/** Lists the versions of the rules of networks. Use it to read only rules that have changed. */
export async function listRulesVersions(
  q: Queryable,
  networkIds: readonly string[],
): Promise<Pick<NetworkRules, "networkId" | "rulesVersion">[]> {
  if (networkIds.length === 0) return [];
  return queryRows(
    q,
    sql`select id as "networkId", rules_version::float8 as "rulesVersion" from networks
        where id = ${anyOf(networkIds)} order by id`,
  );
}

/** Lists the rules of networks, at most 10,000 each. Uses rules_network. */
export async function listHostRules(
  q: Queryable,
  networkIds: readonly string[],
): Promise<NetworkRules[]> {
  if (networkIds.length === 0) return [];
  return queryRows(
    q,
    sql`select n.id as "networkId", n.rules_version::float8 as "rulesVersion",
          n.end_connections_count::float8 as "endConnectionsCount",
          (select coalesce(json_agg(json_build_object('ruleId', r.id, 'name', r.name, 'priority', r.priority,
              'direction', r.direction, 'action', r.action, 'protocol', r.protocol, 'ports', r.ports, 'serviceId', r.service_id,
              'peer', case r.peer_kind when 'cidr' then json_build_object('kind', 'cidr', 'cidr', r.peer_cidr)
                when 'service' then json_build_object('kind', 'service', 'serviceId', r.peer_service_id)
                else json_build_object('kind', r.peer_kind) end) order by r.id), '[]')
            from rules r where r.network_id = n.id) as rules
        from networks n where n.id = ${anyOf(networkIds)} order by n.id`,
  );
}
