import { sql } from "drizzle-orm";
import { check, index, jsonb, pgTable, smallint, text, uniqueIndex } from "drizzle-orm/pg-core";
import {
  ruleActions,
  ruleDirections,
  type RulePeerKind,
  rulePeerKinds,
  type RuleProtocol,
  ruleProtocols,
} from "../../contracts/api/rules.ts";
import type { PortRange } from "../../contracts/common/port-ranges.ts";
import {
  RULE_PRIORITY_MAX,
  type RuleAction,
  type RuleDirection,
} from "../../contracts/network-driver/host-rule.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { networks } from "./networks.ts";
import { services } from "./services.ts";
import { tenants } from "./tenancy.ts";

/**
 * The firewall rules of networks. A change locks the row of the network, so that the rules of a
 * network have one order of changes. Rules that name a service go in the statement that completes
 * the deletion of the service.
 */
export const rules = pgTable(
  "rules",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    networkId: text("network_id")
      .notNull()
      .references(() => networks.id, { onDelete: "cascade" }),
    name: text("name").notNull(),
    generation: int8("generation").notNull().default(1),
    direction: text("direction").$type<RuleDirection>().notNull(),
    action: text("action").$type<RuleAction>().notNull(),
    protocol: text("protocol").$type<RuleProtocol>().notNull(),
    /** Ranges in ascending order that neither overlap nor touch. Empty for all ports. */
    ports: jsonb("ports").$type<PortRange[]>().notNull(),
    /** Null for all sets of the network. */
    serviceId: text("service_id").references(() => services.id, { onDelete: "cascade" }),
    peerKind: text("peer_kind").$type<RulePeerKind>().notNull(),
    /** In the form of RFC 5952. Postgres formats some IPv6 addresses in another form. */
    peerCidr: text("peer_cidr"),
    peerServiceId: text("peer_service_id").references(() => services.id, { onDelete: "cascade" }),
    priority: smallint("priority").notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    updatedAt: timestamptz("updated_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("rules_name_unique").on(table.tenantId, table.name),
    index("rules_network").on(table.networkId, table.id),
    index("rules_service")
      .on(table.serviceId)
      .where(sql`service_id is not null`),
    index("rules_peer_service")
      .on(table.peerServiceId)
      .where(sql`peer_service_id is not null`),
    check("rules_direction_known", sql`${table.direction} in (${quoted(ruleDirections)})`),
    check("rules_action_known", sql`${table.action} in (${quoted(ruleActions)})`),
    check("rules_protocol_known", sql`${table.protocol} in (${quoted(ruleProtocols)})`),
    check("rules_peer_kind_known", sql`${table.peerKind} in (${quoted(rulePeerKinds)})`),
    check(
      "rules_peer_matches_kind",
      sql`(${table.peerKind} = 'cidr') = (${table.peerCidr} is not null) and (${table.peerKind} = 'service') = (${table.peerServiceId} is not null)`,
    ),
    check(
      "rules_ports_need_transport",
      sql`${table.protocol} in ('tcp', 'udp') or ${table.ports} = '[]'::jsonb`,
    ),
    check(
      "rules_priority_within_limits",
      sql`${table.priority} between 0 and ${sql.raw(String(RULE_PRIORITY_MAX))}`,
    ),
  ],
);
