import { type SQL, sql } from "drizzle-orm";
import {
  formatPorts,
  type Rule,
  type RulePeer,
  type RulePeerKind,
} from "../../../contracts/api/rules.ts";
import type { PortRange } from "../../../contracts/common/port-ranges.ts";
import { assert } from "../../../lib/assert.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, queryRows } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";
import type { RuleDefinition } from "./write-rules.ts";

/** A rule as the API shows it, and as the database stores it. */
export interface RuleRow {
  rule: Rule;
  networkId: string;
  definition: RuleDefinition;
}

interface ReadRow extends Omit<Rule, "ports" | "peer" | "createdAt" | "updatedAt"> {
  networkId: string;
  ports: PortRange[];
  serviceId: string | null;
  peerKind: RulePeerKind;
  peerCidr: string | null;
  peerService: string | null;
  peerServiceId: string | null;
  createdAt: string | Date;
  updatedAt: string | Date;
}

const selectRules = sql`
  select r.id, t.name as tenant, n.name as network, n.id as "networkId", r.name, r.generation::float8 as generation,
    r.direction, r.action, r.protocol, r.ports, s.name as service, r.service_id as "serviceId", r.peer_kind as "peerKind",
    r.peer_cidr as "peerCidr", p.name as "peerService", r.peer_service_id as "peerServiceId", r.priority,
    r.created_at as "createdAt", r.updated_at as "updatedAt"
  from rules r join tenants t on t.id = r.tenant_id join networks n on n.id = r.network_id
    left join services s on s.id = r.service_id left join services p on p.id = r.peer_service_id`;

export interface RuleFilter {
  network?: string | undefined;
  service?: string | undefined;
}

/** Lists rules of a tenant, or of all tenants, after `afterId`, the oldest first. */
export async function listRules(
  q: Queryable,
  tenantId: string | null,
  { network, service }: RuleFilter,
  afterId: string | undefined,
  limit: number,
): Promise<Rule[]> {
  const ofNetwork = network === undefined ? sql`true` : sql`n.name = ${network}`;
  const ofService = service === undefined ? sql`true` : sql`${service} in (s.name, p.name)`;
  const rows = await selectWhere(
    q,
    sql`r.id > ${afterId ?? ""} and ${inScope(sql`r.tenant_id`, tenantId)} and ${ofNetwork} and ${ofService}
        order by r.id limit ${limit}`,
  );
  return rows.map(({ rule }) => rule);
}

/** Lists the rules of one request, in its order. */
export async function listRulesById(q: Queryable, ids: readonly string[]): Promise<Rule[]> {
  const rows = await selectWhere(
    q,
    sql`r.id = any (array(select value from json_array_elements_text(${JSON.stringify(ids)}::json)))`,
  );
  const byId = new Map(rows.map(({ rule }) => [rule.id, rule]));
  return ids.flatMap((id) => byId.get(id) ?? []);
}

export async function findRule(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<RuleRow | undefined> {
  const [row] = await selectWhere(q, sql`r.tenant_id = ${tenantId} and r.name = ${name}`);
  return row;
}

async function selectWhere(q: Queryable, condition: SQL): Promise<RuleRow[]> {
  const rows = await queryRows<ReadRow>(q, sql`${selectRules} where ${condition}`);
  return rows.map(toRow);
}

function toRow(row: ReadRow): RuleRow {
  const { direction, action, protocol, ports, priority } = row;
  const { networkId, serviceId, peerKind, peerCidr, peerServiceId } = row;
  const shared = { direction, action, protocol, priority };
  return {
    rule: {
      id: row.id,
      tenant: row.tenant,
      network: row.network,
      name: row.name,
      generation: row.generation,
      service: row.service,
      ...shared,
      ports: formatPorts(ports),
      peer: toPeer(row),
      createdAt: isoTime(row.createdAt),
      updatedAt: isoTime(row.updatedAt),
    },
    networkId,
    definition: { ...shared, ports, serviceId, peerKind, peerCidr, peerServiceId },
  };
}

function toPeer({ peerKind, peerCidr, peerService, network }: ReadRow): RulePeer {
  switch (peerKind) {
    case "any":
      return { any: true };
    case "network":
      return { network };
    case "cidr":
      assert(peerCidr, "a rule with a CIDR peer has it");
      return { cidr: peerCidr };
    case "service":
      assert(peerService, "a rule with a service peer has it");
      return { service: peerService };
  }
}
