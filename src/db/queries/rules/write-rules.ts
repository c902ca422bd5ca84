import { sql } from "drizzle-orm";
import type { RulePeerKind, RuleProtocol } from "../../../contracts/api/rules.ts";
import type { PortRange } from "../../../contracts/common/port-ranges.ts";
import type { RuleAction, RuleDirection } from "../../../contracts/network-driver/host-rule.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/** The part of a rule that a change replaces. */
export interface RuleDefinition {
  direction: RuleDirection;
  action: RuleAction;
  protocol: RuleProtocol;
  ports: readonly PortRange[];
  /** Null for all sets of the network. */
  serviceId: string | null;
  peerKind: RulePeerKind;
  peerCidr: string | null;
  peerServiceId: string | null;
  priority: number;
}

export interface NewRule extends RuleDefinition {
  id: string;
  tenantId: string;
  networkId: string;
  name: string;
}

/** A service that a rule names. */
export interface RuleService {
  id: string;
  name: string;
  deleting: boolean;
}

/**
 * Lists those of the services that exist. Their deletion cannot complete before the end of the
 * transaction, so that no rule outlives its service. Locks them in id order.
 */
export async function lockRuleServices(
  q: Queryable,
  tenantId: string,
  names: readonly string[],
): Promise<RuleService[]> {
  if (names.length === 0) return [];
  return queryRows(
    q,
    sql`select id, name, deleting from services
        where tenant_id = ${tenantId} and name = ${anyOf(names)} and deleted_at is null
        order by id for share`,
  );
}

/** A network whose rules the transaction changes. */
export interface RuleNetwork {
  id: string;
  name: string;
  families: (4 | 6)[];
}

/**
 * Locks those of the networks that exist, in id order. No other transaction changes their rules
 * before the end of this one.
 */
export async function lockRuleNetworks(
  q: Queryable,
  tenantId: string,
  names: readonly string[],
): Promise<RuleNetwork[]> {
  return queryRows(
    q,
    sql`select n.id, n.name,
          (select coalesce(json_agg(b.family order by b.family), '[]') from subnets b where b.network_id = n.id) as families
        from networks n where n.tenant_id = ${tenantId} and n.name = ${anyOf(names)}
        order by n.id for no key update of n`,
  );
}

/** Counts the rules of each network of a tenant that has some. Uses rules_name_unique. */
export async function countRules(
  q: Queryable,
  tenantId: string,
): Promise<{ networkId: string; rules: number }[]> {
  return queryRows(
    q,
    sql`select network_id as "networkId", count(*)::int as rules from rules
        where tenant_id = ${tenantId} group by network_id`,
  );
}

/**
 * Lists the ports of the rules of each network, except rules for all ports: at most 10,000 sets of
 * ranges for each network. Uses rules_network.
 */
export async function listRulePorts(
  q: Queryable,
  networkIds: readonly string[],
): Promise<{ networkId: string; ports: PortRange[][] }[]> {
  return queryRows(
    q,
    sql`select network_id as "networkId", json_agg(ports) as ports from rules
        where network_id = ${anyOf(networkIds)} and ports <> '[]' group by network_id`,
  );
}

/** Inserts rules. Returns the names of those that it inserted: not those that the tenant has. */
export async function insertRules(q: Queryable, added: readonly NewRule[]): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(
    q,
    sql`insert into rules (id, tenant_id, network_id, name, direction, action, protocol, ports, service_id,
          peer_kind, peer_cidr, peer_service_id, priority)
        select r.id, r."tenantId", r."networkId", r.name, r.direction, r.action, r.protocol, r.ports, r."serviceId",
          r."peerKind", r."peerCidr", r."peerServiceId", r.priority
        from json_to_recordset(${JSON.stringify(added)}::json) as r(id text, "tenantId" text, "networkId" text, name text,
          direction text, action text, protocol text, ports jsonb, "serviceId" text, "peerKind" text, "peerCidr" text,
          "peerServiceId" text, priority smallint)
        order by r.name on conflict (tenant_id, name) do nothing returning name`,
  );
  return rows.map(({ name }) => name);
}

/** Replaces the definition of a rule whose network is locked, and increments its generation. */
export async function updateRule(q: Queryable, id: string, rule: RuleDefinition): Promise<void> {
  await q.execute(
    sql`update rules set generation = generation + 1, updated_at = now(), direction = ${rule.direction},
          action = ${rule.action}, protocol = ${rule.protocol}, ports = ${JSON.stringify(rule.ports)}::jsonb,
          service_id = ${rule.serviceId}, peer_kind = ${rule.peerKind}, peer_cidr = ${rule.peerCidr},
          peer_service_id = ${rule.peerServiceId}, priority = ${rule.priority}
        where id = ${id}`,
  );
}

export async function deleteRuleRow(q: Queryable, id: string): Promise<void> {
  await q.execute(sql`delete from rules where id = ${id}`);
}

/**
 * Notes a change of the rules of locked networks. With `endsConnections`, hosts then end the open
 * connections that the rules do not allow.
 */
export async function bumpRulesVersions(
  q: Queryable,
  networkIds: readonly string[],
  endsConnections: boolean,
): Promise<void> {
  await q.execute(
    sql`update networks set rules_version = rules_version + 1,
          end_connections_count = end_connections_count + ${endsConnections ? 1 : 0}
        where id = ${anyOf(networkIds)}`,
  );
}
