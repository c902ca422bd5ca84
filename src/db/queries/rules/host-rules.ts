import { type SQL, sql } from "drizzle-orm";
import type { RuleProtocol } from "../../../contracts/api/rules.ts";
import type { HostRule } from "../../../contracts/network-driver/host-rule.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/**
 * SQL text that differs if the rules of network `n` may differ. A failover can lose a version and
 * use it again for other rules, but then another transaction wrote the row.
 */
export const rulesKeySql = sql`n.rules_version || '.' || n.xmin`;

/** The rules of a network in the form in which its hosts get them. */
export interface NetworkRules {
  networkId: string;
  /** It differs if the rules may differ: see rulesKeySql. */
  rulesKey: string;
  /** The order is that of the ids. */
  rules: HostRule[];
}

/** The connections of a question: those between sets of these services, and external addresses. */
export interface RuleQuestion {
  serviceIds: readonly string[];
  protocol: RuleProtocol;
}

/**
 * Lists the rules of networks, at most 10,000 each. With `question`, it omits rules that cannot
 * match these connections. Uses rules_network.
 */
export async function listHostRules(
  q: Queryable,
  networkIds: readonly string[],
  question?: RuleQuestion,
): Promise<NetworkRules[]> {
  if (networkIds.length === 0) return [];
  const mayMatch = question === undefined ? sql`true` : mayMatchSql(question);
  return queryRows(
    q,
    sql`select n.id as "networkId", ${rulesKeySql} as "rulesKey",
          (select coalesce(json_agg(json_build_object('ruleId', r.id, 'name', r.name, 'priority', r.priority,
              'direction', r.direction, 'action', r.action, 'protocol', r.protocol, 'ports', r.ports, 'serviceId', r.service_id,
              'peer', case r.peer_kind when 'cidr' then json_build_object('kind', 'cidr', 'cidr', r.peer_cidr)
                when 'service' then json_build_object('kind', 'service', 'serviceId', r.peer_service_id)
                else json_build_object('kind', r.peer_kind) end) order by r.id), '[]')
            from rules r where r.network_id = n.id and ${mayMatch}) as rules
        from networks n where n.id = ${anyOf(networkIds)} order by n.id`,
  );
}

/** SQL condition: rule `r` is for all sets or one of the services, and so is its peer. */
function mayMatchSql({ serviceIds, protocol }: RuleQuestion): SQL {
  return sql`r.protocol in ('any', ${protocol}) and (r.service_id is null or r.service_id = ${anyOf(serviceIds)})
    and (r.peer_service_id is null or r.peer_service_id = ${anyOf(serviceIds)})`;
}
