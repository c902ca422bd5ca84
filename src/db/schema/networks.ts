import { sql } from "drizzle-orm";
import {
  check,
  cidr,
  index,
  inet,
  integer,
  jsonb,
  pgSequence,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import { addressStates, type AddressState, VNI_MIN } from "../../contracts/api/networks.ts";
import { VNI_MAX } from "../../contracts/network-driver/network-state.ts";
import type { OffsetRange } from "../../contracts/common/subnet-addresses.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { tenants } from "./tenancy.ts";

/**
 * The VXLAN network identifiers (VNI) of networks, in order. After the last one it starts again, so
 * a VNI is not used again before 16 million other ones.
 */
export const networkVnis = pgSequence("network_vnis", {
  minValue: VNI_MIN,
  maxValue: VNI_MAX,
  startWith: VNI_MIN,
  cycle: true,
});

/** Virtual networks of tenants. */
export const networks = pgTable(
  "networks",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    name: text("name").notNull(),
    generation: int8("generation").notNull().default(1),
    /** The VXLAN network identifier: see networkVnis. */
    vni: integer("vni").notNull(),
    /** Increases with each change of the rules of the network. */
    rulesVersion: int8("rules_version").notNull().default(0),
    /** How many of these changes end the open connections that the rules do not allow. */
    endConnectionsCount: int8("end_connections_count").notNull().default(0),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("networks_name_unique").on(table.tenantId, table.name),
    uniqueIndex("networks_vni_unique").on(table.vni),
  ],
);

/** The subnets of networks: at most one of each family. */
export const subnets = pgTable(
  "subnets",
  {
    id: text("id").primaryKey(),
    networkId: text("network_id")
      .notNull()
      .references(() => networks.id, { onDelete: "cascade" }),
    family: smallint("family").$type<4 | 6>().notNull(),
    cidr: cidr("cidr").notNull(),
    gateway: inet("gateway").notNull(),
    /** Empty for the whole subnet. */
    pools: jsonb("pools").$type<string[]>().notNull(),
    reservations: jsonb("reservations").$type<string[]>().notNull(),
    /** The addresses that Berth may assign, from the columns above: see listUsableRanges. */
    ranges: jsonb("ranges").$type<OffsetRange[]>().notNull(),
    /** The number of addresses in `ranges`. */
    usable: int8("usable").notNull(),
    /** The number of rows in `addresses`, assigned or quarantined. All of them are in `ranges`. */
    unavailable: int8("unavailable").notNull().default(0),
    /** The offset of the last assigned address. The search for the next one starts here. */
    lastOffset: int8("last_offset").notNull().default(0),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex("subnets_family_unique").on(table.networkId, table.family),
    check("subnets_family_known", sql`${table.family} in (4, 6)`),
    check(
      "subnets_unavailable_within_usable",
      sql`${table.unavailable} between 0 and ${table.usable}`,
    ),
  ],
);

/**
 * The addresses that sets, services and gateways have, or had until recently. The transaction that
 * books a set on a host inserts those of the set. Sweeps insert those of services and gateways. The
 * triggers sets_quarantine_addresses, services_quarantine_addresses and hosts_quarantine_addresses
 * quarantine them at the end of the booking, and with the deletion of the service or host. A sweep
 * deletes them later.
 */
export const addresses = pgTable(
  "addresses",
  {
    subnetId: text("subnet_id")
      .notNull()
      .references(() => subnets.id, { onDelete: "cascade" }),
    address: inet("address").notNull(),
    /**
     * The set that has it, or that had it last. A trigger quarantines it when the set leaves. Null
     * for an unknown set, a service and a gateway.
     */
    setId: text("set_id"),
    /**
     * The unknown set that has the address by the report of its host. A trigger quarantines it when
     * the row of `unknown_sets` is deleted.
     */
    unknownSetId: text("unknown_set_id"),
    unknownHostId: text("unknown_host_id"),
    /** The service whose address it is or was. A trigger quarantines it with its deletion. */
    serviceId: text("service_id"),
    /** The host that has it as a gateway of the network. A trigger quarantines it with the host. */
    gatewayHostId: text("gateway_host_id"),
    /**
     * When this host confirmed that it no longer uses the quarantined address. Null before, and
     * for other holders.
     */
    gatewayLeftAt: timestamptz("gateway_left_at"),
    /** The position of the network in the template of the set, from 0. Null for other holders. */
    networkIndex: smallint("network_index"),
    mac: text("mac").notNull(),
    state: text("state").$type<AddressState>().notNull().default("assigned"),
    /** When the set left its host, or the service the network. Null for an assigned address. */
    quarantinedAt: timestamptz("quarantined_at"),
  },
  (table) => [
    primaryKey({ name: "addresses_pkey", columns: [table.subnetId, table.address] }),
    // A set that is placed again gets its own quarantined address, so it has one in each subnet.
    uniqueIndex("addresses_set_subnet_unique").on(table.setId, table.subnetId),
    // A service gets its own quarantined address again, too.
    uniqueIndex("addresses_service_subnet_unique")
      .on(table.serviceId, table.subnetId)
      .where(sql`service_id is not null`),
    uniqueIndex("addresses_gateway_subnet_unique")
      .on(table.gatewayHostId, table.subnetId)
      .where(sql`gateway_host_id is not null`),
    index("addresses_quarantined")
      .on(table.subnetId, table.quarantinedAt)
      .where(sql`state = 'quarantined'`),
    index("addresses_unknown")
      .on(table.unknownHostId, table.unknownSetId)
      .where(sql`unknown_set_id is not null`),
    check(
      "addresses_unknown_complete",
      sql`(${table.unknownSetId} is null) = (${table.unknownHostId} is null)`,
    ),
    check(
      "addresses_one_holder",
      sql`num_nonnulls(${table.setId}, ${table.unknownSetId}, ${table.serviceId}, ${table.gatewayHostId}) < 2`,
    ),
    check(
      "addresses_index_of_set",
      sql`(coalesce(${table.serviceId}, ${table.gatewayHostId}) is null) = (${table.networkIndex} is not null)`,
    ),
    check("addresses_state_known", sql`${table.state} in (${quoted(addressStates)})`),
    check(
      "addresses_time_if_quarantined",
      sql`(${table.state} = 'quarantined') = (${table.quarantinedAt} is not null)`,
    ),
  ],
);
