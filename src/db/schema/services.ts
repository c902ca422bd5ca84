import { sql } from "drizzle-orm";
import {
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import type { DisruptionBudget } from "../../contracts/api/disruption-budget.ts";
import type { PlacementSpec } from "../../contracts/api/placement-spec.ts";
import { type AutoscaleSpec, hostLostPolicies } from "../../contracts/api/services.ts";
import type { ServiceGatewayPort } from "../../contracts/api/gateways.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { RolloutStrategySpec } from "../../contracts/api/rollouts.ts";
import type { VolumeMoves } from "../../contracts/api/transfers.ts";
import { int8, quoted, timestamptz } from "./columns.ts";
import { tenants } from "./tenancy.ts";

export const services = pgTable(
  "services",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id")
      .notNull()
      .references(() => tenants.id),
    name: text("name").notNull(),
    generation: int8("generation").notNull().default(1),
    /** The current revision: new sets have it. */
    revision: integer("revision").notNull().default(1),
    /** The newest revision that a user requested. Null if it is the current one. */
    targetRevision: integer("target_revision"),
    replicas: integer("replicas").notNull(),
    desiredReplicas: integer("desired_replicas").notNull(),
    priority: integer("priority").notNull(),
    /** The size of new sets. The sums of a quota use it. */
    setCpuMillis: int8("set_cpu_millis").notNull().default(0),
    setMemoryBytes: int8("set_memory_bytes").notNull().default(0),
    setVolumeBytes: int8("set_volume_bytes").notNull().default(0),
    setRootfsBytes: int8("set_rootfs_bytes").notNull().default(0),
    placement: jsonb("placement").$type<PlacementSpec>().notNull(),
    onHostLost: text("on_host_lost").$type<(typeof hostLostPolicies)[number]>().notNull(),
    autoscale: jsonb("autoscale").$type<AutoscaleSpec>(),
    /** Null for the defaults of the contract. */
    disruption: jsonb("disruption").$type<DisruptionBudget>(),
    /** Null for the default strategy. */
    rollout: jsonb("rollout").$type<RolloutStrategySpec>(),
    /** A user must end the protection before a deletion or a scale to 0. */
    isDeletionProtected: boolean("deletion_protected").notNull().default(false),
    /** A user stopped the service: its sets are to be stopped, and new ones too. */
    isStopped: boolean("is_stopped").notNull().default(false),
    /** Null if a set stays on the host of its volume. */
    volumeMoves: jsonb("volume_moves").$type<VolumeMoves>(),
    /** The ports of gateways at which other machines reach the service. Null for none. */
    gatewayPorts: jsonb("gateway_ports").$type<ServiceGatewayPort[]>(),
    deleting: boolean("deleting").notNull().default(false),
    /** The revision for whose networks the service has all its addresses. */
    addressedRevision: integer("addressed_revision"),
    /** The revision for which an event has reported that a network had no free address. */
    unaddressedRevision: integer("unaddressed_revision"),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
    updatedAt: timestamptz("updated_at").notNull().defaultNow(),
    deletedAt: timestamptz("deleted_at"),
  },
  (table) => [
    uniqueIndex("services_name_unique")
      .on(table.tenantId, table.name)
      .where(sql`deleted_at is null`),
    // Services with anti-affinity rules: see repellingServiceSql.
    index("services_repelling")
      .on(table.tenantId)
      .where(sql`deleted_at is null and placement->'antiAffinity' <> '[]'::jsonb`),
    // The same services by each tenant and name that their rules contain: see listRepulsions.
    index("services_repelled_names")
      .using("gin", sql`repelled_names(tenant_id, placement)`)
      .with({ fastupdate: false })
      .where(sql`deleted_at is null and placement->'antiAffinity' <> '[]'::jsonb`),
    // Services that may need an address. See listUnaddressedServices.
    index("services_unaddressed")
      .on(table.id)
      .where(
        sql`deleted_at is null and not deleting and addressed_revision is distinct from revision`,
      ),
    // Services that gateways publish. See wantedPortsSql.
    index("services_published")
      .on(table.id)
      .where(sql`deleted_at is null and gateway_ports is not null`),
    index("services_deleted")
      .on(table.deletedAt)
      .where(sql`deleted_at is not null`),
    index("services_deleting")
      .on(table.id)
      .where(sql`deleting and deleted_at is null`),
    check("services_on_host_lost_known", sql`${table.onHostLost} in (${quoted(hostLostPolicies)})`),
    check(
      "services_replicas_not_negative",
      sql`least(${table.replicas}, ${table.desiredReplicas}) >= 0`,
    ),
  ],
);

/** Immutable versions of a service's set template. */
export const revisions = pgTable(
  "revisions",
  {
    serviceId: text("service_id")
      .notNull()
      .references(() => services.id),
    number: integer("number").notNull(),
    template: jsonb("template").$type<SetTemplate>().notNull(),
    /**
     * The image of each container with its digest, `name@sha256:…`. Null until a rollout has
     * resolved the tags.
     */
    pinnedImages: jsonb("pinned_images").$type<Record<string, string>>(),
    /** The names of the containers that differ from the revision before. Null if unknown. */
    changedContainers: jsonb("changed_containers").$type<string[]>(),
    createdAt: timestamptz("created_at").notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ name: "revisions_pkey", columns: [table.serviceId, table.number] }),
    index("revisions_created_at").on(table.createdAt),
  ],
);
