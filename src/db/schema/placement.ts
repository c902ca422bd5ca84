import { sql } from "drizzle-orm";
import {
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import { type PortProtocol, portProtocols } from "../../contracts/api/template-ports.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { hosts } from "./hosts.ts";

/** The committed placements with the parts of their scores. Retention deletes superseded ones. */
export const placements = pgTable(
  "placements",
  {
    id: text("id").primaryKey(),
    setId: text("set_id").notNull(),
    hostId: text("host_id").notNull(),
    generation: int8("generation").notNull(),
    policyVersion: int8("policy_version").notNull(),
    score: int8("score").notNull(),
    because: jsonb("because").$type<Record<string, number>>().notNull(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [index("placements_set").on(table.setId, table.id)],
);

/** The reasons of the last rejection: one row for each pending set that was rejected. */
export const rejections = pgTable("rejections", {
  setId: text("set_id").primaryKey(),
  policyVersion: int8("policy_version").notNull(),
  hostsTotal: integer("hosts_total").notNull(),
  reasons: jsonb("reasons").$type<{ reason: string; hosts: number }[]>().notNull(),
  at: timestamptz("at").notNull().defaultNow(),
});

/**
 * The host ports that sets and services have. The transaction that books a set on a host inserts
 * those of the set. The trigger sets_release_host_ports deletes them at the end of the booking.
 * Agents report those of unknown sets. The trigger unknown_sets_release_host_ports deletes them. A
 * sweep inserts and deletes those of services at gateways: see assign-gateways.ts. The trigger
 * services_release_host_ports deletes them with the service.
 */
export const hostPorts = pgTable(
  "host_ports",
  {
    hostId: text("host_id")
      .notNull()
      .references(() => hosts.id, { onDelete: "cascade" }),
    protocol: text("protocol").$type<PortProtocol>().notNull(),
    port: integer("port").notNull(),
    /** Null for a port of a service at a gateway. */
    setId: text("set_id"),
    /** The service, and the network in which its sets are. Null for a port of a set. */
    serviceId: text("service_id"),
    networkId: text("network_id"),
    /** The name of the port in the template. Null for an unknown set of the host. */
    name: text("name"),
  },
  (table) => [
    primaryKey({ name: "host_ports_pkey", columns: [table.hostId, table.protocol, table.port] }),
    uniqueIndex("host_ports_set_name_unique").on(table.setId, table.name),
    index("host_ports_port").on(table.port, table.protocol),
    index("host_ports_service")
      .on(table.serviceId)
      .where(sql`service_id is not null`),
    check("host_ports_one_holder", sql`num_nonnulls(${table.setId}, ${table.serviceId}) = 1`),
    check(
      "host_ports_network_of_service",
      sql`(${table.serviceId} is null) = (${table.networkId} is null)`,
    ),
    check("host_ports_protocol_known", sql`${table.protocol} in (${quoted(portProtocols)})`),
    check("host_ports_port_valid", sql`${table.port} between 1 and 65535`),
  ],
);
